"""What the documentation and the configurations of Prometheus take from the code.

`python -m promgithub.reference .` writes it.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric

from ingest.receiver_metrics import ReceiverMetrics, SpoolFigures
from processor.counting.catalogue import CATALOGUE
from processor.counting.ci_metrics import CiCounter
from processor.counting.runner_classes import PRICES_FROM, PRICES_PAGE, STANDARD_RUNNERS
from processor.metrics import WorkerMetrics, health_families, held_families, leader_family, queue_families
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.runner_lists import STATES, RunnerKind
from processor.recovery.runners import runners_family
from processor.status.endpoints import ENDPOINTS
from processor.status.queries import PARAMETERS, Query
from processor.store.retention import rules
from processor.store.tables import metadata
from promgithub.openapi import openapi_json
from shared.brokers.interface import NOTHING_HELD, Depths
from shared.settings import CommonSettings, Described, IngestSettings, ProcessorSettings, StandaloneSettings, described

_MAX_LABELS = 3
"""Maximum number of labels of a process's own metrics."""

_BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->\n)", re.DOTALL)

_CONFIGURATION = """\
# Configuration

All settings are environment variables. Instead of each variable, you can set `…_FILE` to the path of a file that
contains the value (a mounted secret). An empty variable counts as not set. `promgithub check-config` prints the
effective settings of `ingest` and `processor` and every problem; `promgithub check-config ROLE` does so for one role
(`ingest`, `processor` or `standalone`). Other pages omit the prefix `PROMGITHUB_` where it is clear.

Both `check-config` and each process at its start warn of

- names of variables that are not a setting, such as a misspelt one;
- settings that have no effect in standalone (the list is at the end of this page);
- values that are likely to cause trouble: `EVENT_QUEUE_SIZE` below 1,000, `DELIVERY_TTL` shorter than GitHub can
  redeliver, and `PREFETCH` below `EVENT_WORKERS` times `BATCH_SIZE`.

Several roles can share one environment file. Therefore a process does not warn of settings that only other roles have,
such as `DATABASE_URL` in `ingest`. `promgithub check-config ROLE` lists them.

`make docs` generates this page from the code."""


def render(page: str) -> str:
    """Return a page in which each block between `<!-- begin NAME -->` and `<!-- end NAME -->` is generated again."""
    return _BLOCK.sub(lambda block: f"{block[1]}{BLOCKS[block[2]]()}{block[3]}", page)


_WITHOUT_EFFECT = """\
{names} have no effect in standalone: a spool in the data directory replaces RabbitMQ."""


def configuration() -> str:
    """Return the content of `docs/configuration.md`, the reference of all settings."""
    common = set(CommonSettings.model_fields)
    both = (set(IngestSettings.model_fields) | set(ProcessorSettings.model_fields)) - {"database_url", "admin_port"}
    sections: tuple[tuple[str, type[CommonSettings], set[str]], ...] = (
        ("Every role", CommonSettings, set()),
        ("Receiver (`promgithub ingest`)", IngestSettings, common),
        ("Processor (`promgithub processor`)", ProcessorSettings, common),
        ("Both in one (`promgithub standalone`): all of the above, except", StandaloneSettings, both),
    )
    lines = [_CONFIGURATION]
    for title, settings, left_out in sections:
        lines += ["", f"## {title}", "", "| variable | default | meaning | takes |", "|---|---|---|---|"]
        lines += [_setting(setting) for name, setting in described(settings).items() if name not in left_out]
    *names, last = (f"`{field.upper()}`" for field in StandaloneSettings.without_effect)
    return "\n".join([*lines, "", _WITHOUT_EFFECT.format(names=f"{', '.join(names)} and {last}")]) + "\n"


def _setting(setting: Described) -> str:
    default = setting.default.replace("|", "\\|")
    shown = f"`{default}`" if default else "none"
    return f"| `{setting.variable}` | {shown} | {setting.meaning} | {setting.takes} |"


def _store() -> str:
    return _table(
        _row(
            metric.name + ("_total" if isinstance(metric, CiCounter) else ""),
            metric.prometheus_type,
            metric.label_names,
            metric.help,
        )
        for metric in CATALOGUE
    )


def _receiver() -> str:
    return _table(_rows(_receiver_families()))


def _processor() -> str:
    return _table(_rows([*_processor_families(), _runners_family()]))


def _receiver_families() -> Iterable[Metric]:
    metrics = ReceiverMetrics(lambda: False, lambda: 0, SpoolFigures)
    _start_series(metrics)
    return metrics.registry.collect()


def _processor_families() -> Iterable[Metric]:
    health = health_families(broker_up=False, database_up=False)
    dynamic = [*health, *held_families(NOTHING_HELD, 0), *queue_families(Depths(0, 0, 0)), leader_family(exposes=False)]
    worker = WorkerMetrics()
    _start_series(worker)
    _start_series(RecoveryMetrics(worker.registry))
    return [*worker.registry.collect(), *dynamic]


def _runners_family() -> Metric:
    """Return the metric that only the leader has, although it is not from the store."""
    return runners_family({RunnerKind("", ""): dict.fromkeys(STATES, 0)})


def _retention() -> str:
    """Return for how long the store keeps the rows of each table, by the defaults of the settings."""
    defaults = {name: field.default for name, field in ProcessorSettings.model_fields.items()}
    rows = ["| rows of | kept for | since |", "|---|---|---|"]
    for rule in rules(defaults["delivery_ttl"], defaults["series_ttl"]):
        table = f"{rule.since.table.name}{'' if rule.only is None else ', closed'}"
        rows.append(f"| {table} | {rule.kept.days} days | {_SINCE[rule.since.name]} |")
    return "\n".join([*rows, ""])


_SINCE = {
    "began_at": "their backfill began",
    "claimed_at": "they were counted",
    "hour": "the hour that they sum up",
    "touched_at": "the last delivery about them",
}
"""What the columns say that hold the age of a row."""


def _github_runners() -> str:
    rows = (
        f"| `{one.label}` | {one.price / 1_000_000:.3f} | {'free' if one.free_in_public else 'the same price'} |"
        for one in STANDARD_RUNNERS
    )
    heading = f"Prices since {PRICES_FROM}, from [GitHub's price list]({PRICES_PAGE}):\n\n"
    return heading + "\n".join(["| label | US$ per minute | in public repositories |", "|---|---|---|", *rows]) + "\n"


def _endpoints() -> str:
    rows = ["| endpoint | returns | parameters |", "|---|---|---|"]
    for endpoint in ENDPOINTS:
        parameters = ", ".join(f"`{name}`" for name in endpoint.parameters) or "none"
        rows.append(f"| `{endpoint.path}` | {endpoint.summary} | {parameters} |")
    return "\n".join([*rows, ""])


def _parameters() -> str:
    rows = ["| parameter | meaning | takes | default |", "|---|---|---|---|"]
    for parameter in PARAMETERS.values():
        default = getattr(Query(), parameter.field)
        shown = "none" if default is None else f"`{parameter.write(default)}`"
        rows.append(f"| `{parameter.name}` | {parameter.meaning} | {parameter.takes} | {shown} |")
    return "\n".join([*rows, ""])


def _grants() -> str:
    """Return what the role that runs processors needs in PostgreSQL."""
    rights = "SELECT, INSERT, UPDATE, DELETE"
    return f"""\
```sql
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {rights} ON TABLES TO promgithub_run;
GRANT {rights} ON {", ".join(sorted(metadata.tables))} TO promgithub_run;
GRANT SELECT ON alembic_version TO promgithub_run;
```
"""


def _start_series(metrics: object) -> None:
    """Create one series of each labelled metric in `metrics`: a metric without series does not show its labels."""
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            for count in range(1, _MAX_LABELS + 1):
                with suppress(ValueError):  # another number of labels
                    metric.labels(*[""] * count)


def _rows(families: Iterable[Metric]) -> Iterator[str]:
    for family in families:
        if family.name.startswith("promgithub_"):
            name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
            labels = [label for label in family.samples[0].labels if label != "le"]
            yield _row(name, family.type, labels, family.documentation)


def _row(name: str, kind: str, labels: Iterable[str], meaning: str) -> str:
    return f"| `{name}` | {kind} | {', '.join(labels)} | {meaning} |"


def _table(rows: Iterable[str]) -> str:
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows, ""])


TABLES = {"store": _store, "receiver": _receiver, "processor": _processor}
"""What makes each table of metrics, by the name of its block."""

BLOCKS = TABLES | {
    "retention": _retention,
    "grants": _grants,
    "runners": _github_runners,
    "endpoints": _endpoints,
    "parameters": _parameters,
}
"""What makes each block, by its name."""


SCRAPE_CONFIGURATIONS = (
    "deploy/prometheus/prometheus.yml",
    "deploy/prometheus/compose.yml",
    "deploy/kubernetes/components/monitoring/podmonitors.yaml",
    "deploy/helm/promgithub/templates/monitoring.yaml",
)
"""Files that tell Prometheus which metrics are from the store, and so the same on whichever processor exposes them."""

_STORE_REGEX = re.compile(r"(?<=regex: )promgithub_\(.*")


def render_scraping(page: str) -> str:
    """Return a configuration in which each regular expression matches the metrics of the leader and no others."""
    own = [f"{family.name}_" for family in (*_receiver_families(), *_processor_families())]
    names = [*(metric.name for metric in CATALOGUE), _runners_family().name]
    stems = "|".join(dict.fromkeys(_stem(name, own) for name in names))
    return _STORE_REGEX.sub(f"promgithub_({stems})(_.+)?", page)


def _stem(name: str, others: Iterable[str]) -> str:
    """Return the first words of a name, after the prefix, with which none of the others begins."""
    stems = accumulate(name.split("_")[1:], "{}_{}".format)
    return next(stem for stem in stems if not any(other.startswith(f"promgithub_{stem}_") for other in others))


def write(root: Path) -> None:
    """Write what each page, and each configuration of Prometheus, takes from the code."""
    for page in (root / "docs").glob("*.md"):
        page.write_text(render(page.read_text("utf-8")), "utf-8")
    (root / "docs/configuration.md").write_text(configuration(), "utf-8")
    (root / "docs/openapi.json").write_text(openapi_json(), "utf-8")
    for file in SCRAPE_CONFIGURATIONS:
        path = root / file
        path.write_text(render_scraping(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
