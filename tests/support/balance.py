"""What the alert about missing deliveries says about figures that processes have exposed before and after something."""

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from tests.support.figures import Figures

RULES = Path(__file__).parents[2] / "deploy/prometheus"
ALERT = "PromgithubDeliveriesMissing"

SCRAPES = 100
"""Scrapes of each page, 15 s apart."""

UP_FOR_LONG = -100_000
"""Start of the processes, in seconds: promtool's time begins at 0."""


async def fires(promtool: str, directory: Path, pages: Mapping[str, tuple[Figures, Figures]]) -> bool:
    """Return whether the alert fires if Prometheus scrapes these pages, by instance: first the one, then the other."""
    case = directory / "balance.yml"
    case.write_text(yaml.safe_dump(_case(dict(_series(pages)))), "utf-8")
    done = await asyncio.to_thread(
        subprocess.run, [promtool, "test", "rules", str(case)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0 or ALERT in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode == 0


def _series(pages: Mapping[str, tuple[Figures, Figures]]) -> Iterator[tuple[str, str]]:
    for instance, (before, after) in pages.items():
        for name, labels in sorted(before.keys() | after.keys(), key=str):
            if not name.startswith(("promgithub_", "process_start_time_seconds")):
                continue
            given = {**dict(labels), "job": "promgithub", "instance": instance}
            text = ", ".join(f'{label}="{value}"' for label, value in given.items())
            if name.startswith("process_"):
                values = f"{UP_FOR_LONG}x{2 * SCRAPES}"
            else:
                values = f"{before.get((name, labels), 0)}x{SCRAPES} {after.get((name, labels), 0)}x{SCRAPES}"
            yield f"{name}{{{text}}}", values


def _case(series: Mapping[str, str]) -> object:
    firing = f'ALERTS{{alertname="{ALERT}", alertstate="firing", severity="critical"}}'
    return {
        "evaluation_interval": "30s",
        "rule_files": [str(path) for path in sorted(RULES.glob("*.rules.yml")) if "upstream" not in path.name],
        "group_eval_order": ["promgithub-service-records", "promgithub-counting-alerts"],
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'ALERTS{{alertname="{ALERT}", alertstate="firing"}}',
                        "eval_time": "35m",
                        "exp_samples": [{"labels": firing, "value": 1}],
                    }
                ],
            }
        ],
    }
