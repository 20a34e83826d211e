"""Standalone, killed at random times, loses no accepted delivery and counts none twice."""

import asyncio
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from processor.store.copying import COPIED
from promgithub.simulation.histories import Historian
from tests.support import builders, figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import PROMGITHUB, Launcher, Process

Start = Callable[..., Process]


@pytest.fixture
def start(launcher: Launcher, tmp_path: Path) -> Start:
    """Give a function that starts standalone on the test's data directory."""

    def start_standalone(**settings: str) -> Process:
        return launcher.start("standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET, **settings)

    return start_standalone


async def test_a_shuffled_history_with_duplicates_gives_the_true_figures(start: Start, github: GitHub) -> None:
    standalone = start()
    await standalone.ready()
    truth = Historian(21).history(840)
    order = truth.deliveries + truth.deliveries[::3]
    random.Random(1).shuffle(order)  # noqa: S311 - a test that fails must fail again
    assert await github.send_all(standalone, order) == {202: len(order)}
    counted = await github.settled(truth, standalone)
    duplicates = len(order) - len(truth.deliveries)
    assert figures.total(counted, "promgithub_duplicate_deliveries_dropped_total") == duplicates
    assert figures.total(counted, "promgithub_spool_deliveries") == 0


async def test_kill_9_at_any_instant_loses_no_accepted_delivery_and_counts_none_twice(
    start: Start, github: GitHub
) -> None:
    chance = random.Random(22)  # noqa: S311
    standalone = start()
    await standalone.ready()
    truth = Historian(22).history(1120)

    sending = asyncio.create_task(github.deliver_all(standalone, truth.deliveries))
    for _ in range(6):
        await asyncio.sleep(chance.uniform(0.2, 1.2))
        await standalone.kill()
        standalone.start()
        await standalone.ready()
    await asyncio.wait_for(sending, 60)
    counted = await github.settled(truth, standalone)
    assert figures.total(counted, "promgithub_dead_letters") == 0


async def test_sigterm_under_load_answers_and_a_restart_goes_on_where_it_was(start: Start, github: GitHub) -> None:
    standalone = start()
    await standalone.ready()
    truth = Historian(23).history(420)
    half = len(truth.deliveries) // 2
    assert await github.send_all(standalone, truth.deliveries[:half]) == {202: half}
    assert await standalone.terminate() == 0
    standalone.start()
    await standalone.ready()
    await github.send_all(standalone, truth.deliveries[half:])
    await github.settled(truth, standalone)


def modes(directory: Path) -> dict[str, int]:
    """Return the permissions of a directory and of all in it."""
    return {
        str(path.relative_to(directory)): path.stat().st_mode & 0o777 for path in [directory, *directory.rglob("*")]
    }


async def test_the_files_are_for_their_owner_only_also_those_that_were_not(
    start: Start, github: GitHub, tmp_path: Path
) -> None:
    standalone = start()
    await standalone.ready()
    data = tmp_path / "data"
    private = {name: 0o700 if name in {".", "spool"} else 0o600 for name in modes(data)}
    assert set(private) >= {".", "spool", "promgithub.db", "promgithub.db-wal", "spool/lock", "spool/deliveries.db"}
    assert modes(data) == private
    await standalone.kill()
    for name, mode in private.items():
        (data / name).chmod(0o755 if name == "." else 0o666 if mode == 0o600 else 0o700)

    standalone.start()
    await standalone.ready()
    assert await github.send(standalone, builders.delivery(builders.push())) == 202

    assert modes(data) == {name: private.get(name, 0o600) for name in modes(data)} | {".": 0o755}
    assert "other users may open this directory" in standalone.log
    assert "changed the mode of a file to 600" in standalone.log


async def test_what_was_counted_moves_to_postgresql_with_every_figure_as_it_was(
    start: Start, start_processor: Start, github: GitHub, database_url: str, tmp_path: Path
) -> None:
    standalone = start()
    await standalone.ready()
    truth = Historian(24).history(560)
    odd = builders.delivery(builders.run(2**62, workflow='say "hi" \\ \n 🚀 \0'))
    await github.send_all(standalone, [*truth.deliveries, odd])
    counted = await github.drained(standalone, processed=len(truth.deliveries) + 1)
    before = figures.of_ci(await github.figures(standalone))
    assert figures.total(counted, "promgithub_duplicate_deliveries_dropped_total") == 0

    command = [PROMGITHUB, "copy-store", "--data-dir", str(tmp_path / "data")]
    environment = {"PROMGITHUB_DATABASE_URL": database_url}
    running = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)
    assert (running.returncode, "another promgithub uses it" in running.stderr) == (2, True)
    await standalone.terminate()
    done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *tables, last = done.stdout.splitlines()
    assert (first, last) == ("copying, in one transaction:", "copied; all of it is in the target now")
    assert [line.partition(":")[0] for line in tables] == [table.name for table in COPIED]
    again = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)
    assert (again.returncode, "takes an empty database" in again.stderr) == (1, True)

    processor = start_processor()
    await processor.ready()

    async def same() -> bool | None:
        return figures.of_ci(await github.figures(processor)) == before or None

    await until(same, 20)
