"""The simulator proves what it says: true figures pass, and any sabotage is found and named."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import builders
from tests.github import SECRET, GitHub
from tests.processes import PROMGITHUB, Launcher, Process
from tests.servers.ports import free_port

Start = Callable[..., Process]


async def simulate(*arguments: str, secret: str = SECRET) -> subprocess.CompletedProcess[str]:
    command = [PROMGITHUB, "simulate", *arguments]
    environment = {"PROMGITHUB_WEBHOOK_SECRET": secret, "COLUMNS": "200"}
    return await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


async def simulated(receiver: Process, *processors: Process, seed: int = 1) -> dict[str, Any]:
    """Play 600 deliveries with duplicates and disorder; return the report."""
    pages = [part for processor in processors for part in ("--metrics", processor.admin_url)]
    options = ["--deliveries", "600", "--rate", "400", "--duplicates", "0.2", "--disorder", "0.2", "--burst", "50"]
    done = await simulate(receiver.service_url, *pages, *options, "--seed", str(seed), "--timeout", "30", "--json")
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == report["good"]
    return report


@pytest.fixture
def standalone(launcher: Launcher, tmp_path: Path) -> Process:
    """Give a standalone promgithub that is starting."""
    return launcher.start("standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET)


async def test_a_scaled_out_pipeline_shows_the_truth_also_when_its_store_is_not_empty(
    start_receiver: Start, start_processor: Start
) -> None:
    receiver, one, other = start_receiver(), start_processor(), start_processor()
    await asyncio.gather(receiver.ready(), one.ready(), other.ready())
    await asyncio.sleep(3)  # until one of the two has the lease
    for seed in (1, 1, 2):
        report = await simulated(receiver, one, other, seed=seed)
        assert report["good"], report["differences"]
        assert (report["deliveries"], report["duplicates"], report["answers"]) == (600, 120, {"202": 720})
        assert report["figures_compared"] > 500


async def test_a_figure_that_is_not_true_is_found_and_named(standalone: Process, github: GitHub) -> None:
    await standalone.ready()

    async def sabotage() -> None:
        await asyncio.sleep(1)
        repo = builders.repository("acme/gears")
        assert await github.send(standalone, builders.delivery(builders.push(1, repo=repo))) == 202

    report, _ = await asyncio.gather(simulated(standalone, standalone), sabotage())
    assert not report["good"]
    wrong = {(one["name"], one["labels"]["repository"]): one["got"] - one["expected"] for one in report["differences"]}
    assert wrong == {
        ("promgithub_push_total", "acme/gears"): 1,
        ("promgithub_commit_pushed_total", "acme/gears"): 1,
    }


async def test_what_is_refused_is_redelivered_until_it_is_accepted(launcher: Launcher, tmp_path: Path) -> None:
    arguments = ("standalone", "--data-dir", str(tmp_path / "data"))
    shedding = launcher.start(*arguments, WEBHOOK_SECRET=SECRET, MAX_IN_FLIGHT="2")
    await shedding.ready()
    pages = ("--metrics", shedding.admin_url)
    done = await simulate(shedding.service_url, *pages, "--deliveries", "300", "--burst", "300", "--json")
    report = json.loads(done.stdout)
    assert report["answers"].get("503", 0) > 0
    assert (report["never_accepted"], report["good"]) == (0, True)


async def test_a_person_sees_a_table_and_a_verdict(standalone: Process) -> None:
    await standalone.ready()
    done = await simulate(standalone.service_url, "--metrics", standalone.admin_url, "--deliveries", "100")
    assert done.returncode == 0
    assert "never accepted" in done.stdout
    assert "figures equal the truth." in done.stdout
    assert "of 105" in done.stderr
    unproven = await simulate(standalone.service_url, "--deliveries", "20")
    assert (unproven.returncode, "Nothing was compared" in unproven.stdout) == (0, True)


async def test_what_is_wrong_is_said_in_one_line(standalone: Process) -> None:
    await standalone.ready()
    nobody = f"http://127.0.0.1:{free_port()}"
    for arguments, secret, says in (
        ((nobody,), SECRET, "cannot be reached"),
        ((standalone.service_url,), "wrong", "does not accept the secret"),
        ((f"{standalone.service_url}/elsewhere",), SECRET, "no webhook at that URL"),
        ((standalone.service_url, "--metrics", nobody), SECRET, "cannot be read"),
        ((standalone.service_url, "--metrics", f"{standalone.admin_url}/livez"), SECRET, "exposes figures"),
    ):
        done = await simulate(*arguments, secret=secret)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert says in line
