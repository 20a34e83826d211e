"""`promgithub dead-letters` beside the processes that work, on RabbitMQ and on the spool of standalone."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import aio_pika
import pytest

from shared.brokers.spool.integrity import checksum_of
from shared.delivery import Delivery
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import PROMGITHUB, Launcher, Process
from tests.support.servers.ports import free_port

Start = Callable[..., Process]

ADD_A_LETTER = """
INSERT INTO dead_letters (id, event, body, received_at, checksum, reason, detail, dead_at)
VALUES (?, ?, ?, ?, ?, 'refused', 'by hand', 0)
"""

RUNNING_SECONDS = 0.1

POISON = builders.delivery(
    {"workflow_job": {"id": "one"}, "repository": builders.REPOSITORY}, event="workflow_job", host="ghes.example.com"
)


@dataclass(frozen=True)
class Form:
    """A running promgithub of some form, and how the command reaches its dead letters."""

    receiver: Process
    processor: Process
    options: Sequence[str]
    environment: dict[str, str]
    add_letters: Callable[[Sequence[Delivery]], Awaitable[None]]
    many: int
    """Letters whose replay takes seconds."""

    async def ready(self) -> None:
        await asyncio.gather(self.receiver.ready(), self.processor.ready())

    def command(self, name: str, *arguments: str) -> list[str]:
        return [PROMGITHUB, "dead-letters", name, *arguments, *self.options]

    async def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            self.command(name, *arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def succeeds(self, name: str, *arguments: str) -> str:
        """Run a subcommand; return what it printed."""
        done = await self.run(name, *arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout


@pytest.fixture(params=["rabbitmq", "standalone"])
def form(request: pytest.FixtureRequest) -> Form:
    """Give promgithub in each form in turn."""
    form: Form = request.getfixturevalue(f"on_{request.param}")
    return form


@pytest.fixture
def on_rabbitmq(
    start_receiver: Start, start_processor: Start, amqp_url: str, queue_name: str, database_url: str
) -> Form:
    """Give a receiver and a processor that are starting."""

    async def add_letters(deliveries: Sequence[Delivery]) -> None:
        async with await aio_pika.connect(amqp_url) as connection:
            exchange = (await connection.channel()).default_exchange
            for one in deliveries:
                message = aio_pika.Message(one.body, message_id=one.id, type=one.event, delivery_mode=2)
                await exchange.publish(message, f"{queue_name}.dead")

    servers = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name, "DATABASE_URL": database_url}
    environment = {f"PROMGITHUB_{name}": value for name, value in servers.items()}
    return Form(start_receiver(), start_processor(), (), environment, add_letters, many=4000)


@pytest.fixture
def on_standalone(launcher: Launcher, tmp_path: Path) -> Form:
    """Give a standalone promgithub that is starting."""
    directory = tmp_path / "data"
    process = launcher.start("standalone", "--data-dir", str(directory), WEBHOOK_SECRET=SECRET)

    async def add_letters(deliveries: Sequence[Delivery]) -> None:
        with closing(sqlite3.connect(directory / "spool" / "deliveries.db")) as connection, connection:
            values = [(one.id, one.event, one.body, one.received_at) for one in deliveries]
            rest = (None,) * 5  # the columns that are not set
            rows = [(*written, checksum_of((*written, *rest))) for written in values]
            connection.executemany(ADD_A_LETTER, rows)

    return Form(process, process, ("--data-dir", str(directory)), {}, add_letters, many=3000)


async def comes_to(github: GitHub, form: Form, name: str, value: float, within: float = 10, **labels: str) -> None:
    """Wait until the processor shows a figure."""

    async def shown() -> Figures | None:
        counted = await github.figures(form.processor)
        return counted if figures.total(counted, name, **labels) == value else None

    await until(shown, within)


async def test_poison_is_listed_shown_replayed_into_being_poison_again_and_dropped(form: Form, github: GitHub) -> None:
    await form.ready()
    assert await form.succeeds("list") == "no dead letters\n"
    assert await github.send(form.receiver, POISON) == 202
    await comes_to(github, form, "promgithub_dead_letters", 1)

    heading, line = (line.split("\t") for line in (await form.succeeds("list")).splitlines())
    assert heading == ["ID", "EVENT", "REPOSITORY", "REASON", "AGE", "SIZE", "DETAIL"]
    assert line[:4] == [POISON.id, "workflow_job", builders.REPOSITORY["full_name"], "undecodable"]
    assert line[4].endswith(" s")
    assert line[5] == f"{len(POISON.body)} B"
    assert "$.workflow_job.id" in line[6]

    listed = json.loads(await form.succeeds("list", "--json"))
    assert (listed["id"], listed["host"], listed["size"]) == (POISON.id, "ghes.example.com", len(POISON.body))

    shown = await form.run("show", POISON.id)
    assert (shown.returncode, shown.stdout.encode()) == (0, POISON.body)
    assert "host: ghes.example.com\n" in shown.stderr
    assert "reason: undecodable\n" in shown.stderr

    shown = json.loads(await form.succeeds("show", POISON.id, "--json"))
    assert (shown["id"], shown["payload"].encode()) == (POISON.id, POISON.body)

    replayed = await form.run("replay", POISON.id)
    counted, again = replayed.stdout.splitlines()
    assert (replayed.returncode, replayed.stderr, counted) == (1, "", "1 replayed")
    assert again.startswith(f"1 is dead again: {POISON.id}: undecodable: ")
    assert again.endswith("$.workflow_job.id`")
    await comes_to(github, form, "promgithub_event_dropped_total", 2, reason="undecodable")
    await comes_to(github, form, "promgithub_dead_letters", 1)
    assert len((await form.succeeds("list")).splitlines()) == 2
    assert json.loads(await form.succeeds("list", "--json"))["host"] == "ghes.example.com"

    refused = await form.run("drop", POISON.id)
    assert (refused.returncode, POISON.id in refused.stdout, "takes --yes" in refused.stderr) == (2, True, True)
    await comes_to(github, form, "promgithub_dead_letters", 1)
    assert await form.succeeds("drop", POISON.id, "--yes") == "1 dropped\n"
    await comes_to(github, form, "promgithub_dead_letters", 0, within=3)
    assert await form.succeeds("list") == "no dead letters\n"


async def test_only_the_letters_that_are_named_are_replayed_and_count_and_an_unknown_one_is_named(
    form: Form, github: GitHub
) -> None:
    await form.ready()
    pushes = [builders.delivery(builders.push()) for _ in range(4)]
    await form.add_letters([*pushes, pushes[0]])
    await comes_to(github, form, "promgithub_dead_letters", 5)

    done = await form.run("replay", pushes[0].id, "never-sent", pushes[2].id)

    assert (done.returncode, done.stdout) == (1, "3 replayed\n")  # the wrong ID ends it without a wait
    assert done.stderr == "promgithub: never-sent: no dead letter has this ID\n"
    await comes_to(github, form, "promgithub_push_total", 2, within=3)
    await comes_to(github, form, "promgithub_duplicate_deliveries_dropped_total", 1)
    await comes_to(github, form, "promgithub_dead_letters", 2)
    listed = [line.split("\t")[0] for line in (await form.succeeds("list")).splitlines()]
    assert sorted(listed) == sorted(["ID", pushes[1].id, pushes[3].id])
    assert (await form.succeeds("list", "--limit", "1")).splitlines()[-1] == "... and 1 more"


@pytest.mark.drill
async def test_a_replay_that_is_killed_loses_nothing_and_is_finished_by_another(form: Form, github: GitHub) -> None:
    await form.ready()
    pushes = [builders.delivery(builders.push()) for _ in range(form.many)]
    await form.add_letters(pushes)
    await comes_to(github, form, "promgithub_dead_letters", len(pushes))
    replaying = await asyncio.create_subprocess_exec(*form.command("replay", "--all"), env=form.environment)

    async def has_begun() -> bool | None:
        # It runs while nobody looks only a little, or it would be done before anybody sees that it has begun.
        replaying.send_signal(signal.SIGCONT)
        await asyncio.sleep(RUNNING_SECONDS)
        replaying.send_signal(signal.SIGSTOP)
        return figures.total(await github.figures(form.processor), "promgithub_push_total") > 0 or None

    await until(has_begun, 60)
    replaying.kill()
    assert await replaying.wait() == -9

    async def finished() -> int | None:
        done = await form.run("replay", "--all")
        return int(done.stdout.split()[0]) if done.returncode == 0 else None

    # The one that was killed may not have removed any letter yet: then all are replayed again, and count once.
    assert 0 < await until(finished, 60) <= len(pushes)
    await comes_to(github, form, "promgithub_push_total", len(pushes), within=30)
    await comes_to(github, form, "promgithub_dead_letters", 0)


async def test_a_replay_says_what_was_counted_and_what_is_dead_again(form: Form, github: GitHub) -> None:
    await form.ready()
    pushes = [builders.delivery(builders.push()) for _ in range(30)]
    await form.add_letters([POISON, *pushes, replace(POISON, id=builders.guid(1))])
    await comes_to(github, form, "promgithub_dead_letters", 32)

    done = await form.run("replay", "--all")

    assert (done.returncode, done.stderr) == (1, "")
    replayed, counted, again, *dead = done.stdout.splitlines()
    assert [replayed, counted, again] == ["32 replayed", "30 counted", "2 are dead again:"]
    assert [one.split(": ")[:2] for one in sorted(dead)] == sorted(
        [[f"  {name}", "undecodable"] for name in (POISON.id, builders.guid(1))]
    )
    await comes_to(github, form, "promgithub_dead_letters", 2)


@pytest.mark.drill
async def test_a_payload_that_was_mended_by_hand_counts_under_the_id_of_its_letter(
    form: Form, github: GitHub, tmp_path: Path
) -> None:
    await form.ready()
    push = builders.delivery(builders.push())
    await form.add_letters([replace(push, body=b'{"ref": 7}')])
    await comes_to(github, form, "promgithub_dead_letters", 1)
    file = tmp_path / "mended.json"
    for broken, problem in [(b"[1]", "one JSON object"), (b'{"a": "\xff"}', "UTF-8")]:
        file.write_bytes(broken)
        refused = await form.run("replay", push.id, "--payload", str(file))
        assert (refused.returncode, refused.stdout) == (2, "")
        assert problem in refused.stderr
    several = await form.run("replay", "--all", "--payload", str(file))
    assert (several.returncode, "takes one ID" in several.stderr) == (2, True)

    file.write_bytes(push.body)
    assert await form.succeeds("replay", push.id, "--payload", str(file)) == "1 replayed\n1 counted\n"

    await comes_to(github, form, "promgithub_push_total", 1)
    assert await github.send(form.receiver, push) == 202
    await comes_to(github, form, "promgithub_duplicate_deliveries_dropped_total", 1)
    assert await form.succeeds("list") == "no dead letters\n"


async def test_a_replay_that_nothing_processes_ends_after_its_wait_and_says_so(form: Form, github: GitHub) -> None:
    await form.ready()
    push = builders.delivery(builders.push())
    await form.add_letters([push, push])
    await comes_to(github, form, "promgithub_dead_letters", 2)
    await form.processor.terminate()

    assert await form.succeeds("replay", "--all", "--wait", "1") == (
        "2 replayed\n2 not processed within 1 s: still in the queue, or no processor is running\n"
    )


async def test_a_replay_without_a_database_says_that_it_cannot_know(on_rabbitmq: Form, github: GitHub) -> None:
    await on_rabbitmq.ready()
    await on_rabbitmq.add_letters([builders.delivery(builders.push())])
    await comes_to(github, on_rabbitmq, "promgithub_dead_letters", 1)
    on_rabbitmq.environment["PROMGITHUB_DATABASE_URL"] = f"postgresql://nobody@127.0.0.1:{free_port()}/none"

    replayed, unknown = (await on_rabbitmq.succeeds("replay", "--all", "--wait", "1")).splitlines()

    assert replayed == "1 replayed"
    assert unknown.startswith("1 without a known result: the database cannot tell what was counted (")
    await comes_to(github, on_rabbitmq, "promgithub_push_total", 1)


@pytest.mark.parametrize("command", [("replay",), ("drop", "--yes"), ("replay", "--all", "d1")])
async def test_a_command_that_changes_something_takes_ids_or_all(command: tuple[str, ...]) -> None:
    done = await _alone(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "takes the IDs of dead letters, or --all" in done.stderr


async def test_a_broker_that_is_away_is_one_line_in_time() -> None:
    port = free_port()
    began = time.monotonic()
    done = await _alone("list", PROMGITHUB_AMQP_URL=f"amqp://guest:guest@127.0.0.1:{port}/")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith(f"promgithub: no connection to RabbitMQ at 127.0.0.1:{port} in 10 s (")
    assert time.monotonic() - began < 60  # and does not wait for ever


async def test_a_directory_without_a_spool_is_one_line_that_names_it(tmp_path: Path) -> None:
    done = await _alone("list", "--spool-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"promgithub: {tmp_path}: there is no spool; takes the directory of a spool\n"


async def _alone(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [PROMGITHUB, "dead-letters", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
