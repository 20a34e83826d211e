"""What the documentation takes from the code: `python -m promgithub.reference docs` writes it."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from ingest.metrics import ReceiverMetrics
from processor.metrics import WorkerMetrics, health_families, leader_family, queue_families
from processor.recovery.metrics import RecoveryMetrics
from processor.series import METRICS, Kind
from shared.broker import Depths
from shared.settings import CommonSettings, Described, IngestSettings, ProcessorSettings, StandaloneSettings, described

_BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->\n)", re.DOTALL)

_CONFIGURATION = """\
# Configuration

Environment variables. Any of them may be given as `…_FILE`, the path of a file that holds the value (a
mounted secret). An empty variable counts as not set. `promgithub check-config` prints what is in effect,
and every problem. Other pages leave out `PROMGITHUB_` where it is clear.

This page is made from the code by `make docs`."""


def render(page: str) -> str:
    """Return a page with each block between `<!-- begin NAME -->` and `<!-- end NAME -->` made anew."""
    return _BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]]()}{block[3]}", page)


_WITHOUT_EFFECT = """\
`AMQP_URL`, `QUEUE_NAME`, `PUBLISH_TIMEOUT` and `SPOOL_DIR` have no effect there: a spool in the data directory takes
the place of RabbitMQ."""


def configuration() -> str:
    """Return the reference of all settings, which is `docs/configuration.md`."""
    common = set(CommonSettings.model_fields)
    both = (set(IngestSettings.model_fields) | set(ProcessorSettings.model_fields)) - {"database_url", "admin_port"}
    sections: tuple[tuple[str, type[CommonSettings], set[str]], ...] = (
        ("Every role", CommonSettings, set()),
        ("Receiver (`promgithub ingest`)", IngestSettings, common),
        ("Processor (`promgithub processor`)", ProcessorSettings, common),
        ("Both in one (`promgithub standalone`): all of the above, but", StandaloneSettings, both),
    )
    lines = [_CONFIGURATION]
    for title, settings, left_out in sections:
        lines += ["", f"## {title}", "", "| variable | default | meaning | takes |", "|---|---|---|---|"]
        lines += [_setting(setting) for name, setting in described(settings).items() if name not in left_out]
    return "\n".join([*lines, "", _WITHOUT_EFFECT]) + "\n"


def _setting(setting: Described) -> str:
    default = setting.default.replace("|", "\\|")
    shown = f"`{default}`" if default else "none"
    return f"| `{setting.variable}` | {shown} | {setting.meaning} | {setting.takes} |"


def _store() -> str:
    return _table(
        _row(name + ("_total" if metric.kind is Kind.COUNTER else ""), metric.kind.value, metric.labels, metric.help)
        for name, metric in METRICS.items()
    )


def _receiver() -> str:
    return _table(_declared(ReceiverMetrics(lambda: False, lambda: 0).registry))


def _processor() -> str:
    health = health_families(broker_up=False, database_up=False)
    dynamic = [*health, *queue_families(Depths(0, 0, 0)), leader_family(exposes=False)]
    registry = WorkerMetrics().registry
    RecoveryMetrics(registry)
    return _table([*_declared(registry), *map(_unlabelled, dynamic)])


def _declared(registry: CollectorRegistry) -> Iterator[str]:
    # prometheus_client tells the labels of a metric without samples nowhere else.
    labels = {
        name: declared._labelnames
        for declared, names in registry._collector_to_names.items()
        if isinstance(declared, MetricWrapperBase)
        for name in names
    }
    for family in registry.collect():
        if family.name.startswith("promgithub_"):
            yield _row(_exposed(family), family.type, labels.get(family.name, ()), family.documentation)


def _unlabelled(family: Metric) -> str:
    return _row(_exposed(family), family.type, (), family.documentation)


def _exposed(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info", "summary": "_count"}.get(family.type, "")


def _row(name: str, kind: str, labels: Iterable[str], meaning: str) -> str:
    return f"| `{name}` | {kind} | {', '.join(labels)} | {meaning} |"


def _table(rows: Iterable[str]) -> str:
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows, ""])


TABLES = {"store": _store, "receiver": _receiver, "processor": _processor}
"""What makes each block, by its name."""


def write(directory: Path) -> None:
    """Make the blocks of every page in a directory anew."""
    for page in directory.glob("*.md"):
        page.write_text(render(page.read_text("utf-8")), "utf-8")
    (directory / "configuration.md").write_text(configuration(), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
