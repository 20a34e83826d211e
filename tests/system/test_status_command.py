"""`promgithub status` shows what the API answers, in a pipe and on a terminal, and says in one line what is wrong."""

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner
from yarl import URL

from processor.status import texts
from processor.status.queries import Query
from promgithub.__main__ import app
from promgithub.commands.status_client import Status, find
from promgithub.simulation.histories import Historian
from shared.errors import StatusError
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import PROMGITHUB, Launcher, Process
from tests.support.servers.ports import free_port

Start = Callable[..., Process]

ENTERS, LEAVES = "\x1b[?1049h", "\x1b[?1049l"
"""What a program writes to switch to the alternate screen of a terminal, and back."""


async def status(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [PROMGITHUB, "status", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def start(launcher: Launcher, tmp_path: Path) -> Start:
    """Give a function that starts standalone on the test's data directory."""

    def start_standalone(**settings: str) -> Process:
        return launcher.start("standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET, **settings)

    return start_standalone


@pytest_asyncio.fixture
async def standalone(start: Start, github: GitHub) -> Process:
    """Give a standalone promgithub that has counted a history with open jobs and failures."""
    process = start()
    await process.ready()
    truth = Historian(31).history(560)
    await github.send_all(process, truth.deliveries)
    await github.drained(process, processed=len(truth.deliveries))
    return process


async def api(process: Process, endpoint: str, **parameters: str) -> Any:
    """Return what an endpoint of the API answers."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{process.admin_url}/api/v1/{endpoint}", params=parameters) as answer,
    ):
        assert answer.status == 200
        return await answer.json()


def still(value: Any) -> Any:
    """Return an answer without what changes with the clock."""
    if isinstance(value, list):
        return [still(one) for one in value]
    if isinstance(value, dict):
        moving = ("age_seconds", "as_of", "oldest_queued_seconds", "oldest_age_seconds")
        return {name: still(one) for name, one in value.items() if name not in moving}
    return value


async def test_json_is_what_the_api_answers_to_the_same_filters(standalone: Process) -> None:
    done = await status(standalone.admin_url, "--json", "--limit", "50")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    shown = json.loads(line)
    assert list(shown) == ["open", "failures", "insights", "pipeline"]
    for endpoint, answer in shown.items():
        assert still(answer) == still(await api(standalone, endpoint))
    assert shown["open"]["jobs"]
    assert shown["failures"]["failures"]
    everything = shown["open"]
    repository, runner_class = everything["jobs"][0]["repository"], everything["jobs"][0]["runner_class"]
    for options, parameters in (
        (("--queued",), {"phase": "queued"}),
        (("--queued", "--older", "10d"), {"phase": "queued", "older": "10d"}),
        (("--repository", repository), {"repository": repository}),
        (("--class", runner_class), {"class": runner_class}),
    ):
        shown = json.loads((await status(standalone.admin_url, "--json", "--limit", "50", *options)).stdout)
        assert still(shown["open"]) == still(await api(standalone, "open", **parameters))
    assert (
        json.loads((await status(standalone.admin_url, "--json", "--window", "7d")).stdout)["insights"]["window"]
        == "7d"
    )


async def test_the_figures_in_a_pipe_are_those_of_the_api(standalone: Process) -> None:
    done = await status(standalone.admin_url, "--window", "7d", "--limit", "3")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    opened = await api(standalone, "open", limit="3")
    queued, waiting, running = (
        sum(one[phase] for one in opened["by_class"]) for phase in ("queued", "waiting", "in_progress")
    )
    assert (
        f"{queued} jobs queued, {waiting} jobs held back, {running} jobs running, {opened['runs_total']} runs open"
    ) in lines
    assert f"3 of {opened['jobs_total']} open jobs" in lines
    for one in opened["jobs"]:
        assert any(one["url"] in line and one["repository"] in line and one["branch"] in line for line in lines)
    failures = await api(standalone, "failures", limit="3")
    for one in failures["failures"]:
        assert any(one["url"] in line and one["failed_step"] in line for line in lines)
    insights = await api(standalone, "insights", window="7d")
    assert "Last 7 days" in lines
    for one in insights["by_class"]:
        figures = [one["runner_class"], texts.number(one["jobs_started"]), texts.duration(one["queue_p50_seconds"])]
        assert any(
            line.startswith("\t".join(figures)) and line.endswith(texts.dollars(one["cost_usd"])) for line in lines
        )
    for one in insights["by_workflow"][:30]:
        figures = [one["workflow"], one["repository"], *(texts.number(one[name]) for name in ("runs", "failed"))]
        assert any(line.startswith("\t".join(figures)) for line in lines)
    for one in (await api(standalone, "pipeline"))["events"]:
        assert any(line.startswith(f"{one['event']}\t{texts.number(one['processed'])}\t") for line in lines)


class Terminal:
    """A terminal in which `promgithub status` runs."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._side, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        environment = {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | environment
        self.process = subprocess.Popen(
            [PROMGITHUB, "status", *arguments], env=environment, stdin=other, stdout=other, stderr=other
        )
        os.close(other)
        os.set_blocking(self._side, False)
        self.shown = ""

    async def shows(self, text: str, times: int = 1) -> None:
        """Wait until it has shown a text so many times."""

        async def found() -> bool | None:
            self.read()
            return self.shown.count(text) >= times or None

        await until(found, 30)

    def read(self) -> None:
        with suppress(OSError):  # nothing more now, or ever
            while part := os.read(self._side, 65536):
                self.shown += part.decode(errors="replace")

    async def ended(self) -> int:
        """Wait until the command has ended, and read meanwhile; return its exit status."""

        async def status() -> int | None:
            self.read()
            return self.process.poll()

        exited = await until(status, 30)
        self.read()
        return exited

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._side)


@contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    opened = Terminal(*arguments, **environment)
    try:
        yield opened
    finally:
        opened.close()


async def test_watching_goes_on_without_an_answer_and_leaves_the_terminal_as_it_was(standalone: Process) -> None:
    url = (await api(standalone, "open"))["jobs"][0]["url"]
    with terminal(standalone.admin_url, PYTHONIOENCODING="ascii") as poor:  # which has not every character
        assert await poor.ended() == 0
        assert re.search(r"at most .* +\?", poor.shown), "a chart"
    with terminal(standalone.admin_url, "--watch") as window:
        await window.shows("jobs queued", times=2)
        assert f";{url}\x1b\\" in window.shown, "a link"
        await standalone.kill()
        await window.shows("Connection refused")
        standalone.start()
        await standalone.ready()
        before = window.shown.count("jobs queued")
        await window.shows("jobs queued", times=before + 3)
        window.process.send_signal(signal.SIGINT)
        assert await window.ended() == 0
        assert window.shown.count(ENTERS) == window.shown.count(LEAVES) == 1
        assert window.shown.rindex("jobs queued") < window.shown.index(LEAVES)
        assert window.shown.rindex("Connection refused") < window.shown.rindex("jobs queued")


async def test_without_a_status_page_one_line_says_what_to_do(start: Start) -> None:
    process = start(STATUS_PAGE="false")
    await process.ready()
    for url, reason in (
        (process.admin_url, "no status page there, status 404"),
        (f"http://user:secret@127.0.0.1:{free_port()}", "Connection refused"),
    ):
        done = await status(url)
        (line,) = done.stderr.splitlines()
        shown = url.replace("user:secret@", "")
        takes = "takes the URL of the admin port of a processor or standalone, on which PROMGITHUB_STATUS_PAGE is true"
        assert line == f"promgithub: {shown}: {reason}; {takes}"
        assert (done.returncode, done.stdout) == (1, "")


async def answering(body: str, status: int = 200, kind: str = "application/json") -> TestServer:
    """Start a server that always gives the same answer."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=body, status=status, content_type=kind)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(application)
    await server.start_server()
    return server


async def read(*urls: URL) -> Status:
    """Read the status as the command does."""
    async with aiohttp.ClientSession() as client:
        found = await find(client, urls)
        return found.decode(await found.read(Query()))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (('{"error": "the store cannot be read: x\\u001b[2J"}', 503), "the store cannot be read: x [2J; see http"),
        (('{"error": "no such parameter"}', 400), "no such parameter; promgithub there is of another version"),
        (("{}", 200), "the answer is not that of promgithub"),
        (("hello", 200, "text/html"), "no status page there, status 200; takes"),
        (("", 302), "the answer is not promgithub's, status 302; takes"),
        (("no", 503), "the answer is not promgithub's, status 503; takes"),
    ],
)
async def test_an_answer_that_is_none_is_one_line(answer: tuple[Any, ...], said: str) -> None:
    server = await answering(*answer)
    try:
        with pytest.raises(StatusError) as caught:
            await read(server.make_url("/"))
    finally:
        await server.close()
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


async def test_without_a_url_the_first_address_with_a_status_page_counts() -> None:
    receiver, processor = await answering('{"error": "not found"}', 404), await answering("{}")
    nobody, none, good = URL(f"http://127.0.0.1:{free_port()}"), receiver.make_url("/"), processor.make_url("/")
    try:
        async with aiohttp.ClientSession() as client:
            assert (await find(client, [nobody, none, good])).shown_url == good
            with pytest.raises(StatusError) as caught:
                await find(client, [nobody, none])
    finally:
        await receiver.close()
        await processor.close()
    assert str(caught.value) == (
        f"no status page at {nobody} (Connection refused) or {none} (no status page there, status 404); "
        "start promgithub, or give its URL"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--older", "30"), "--older='30' is not accepted; takes a number and a unit s, m, h or d, such as 30m"),
        (("--window", "2d"), "--window='2d' is not accepted; takes one of 24h, 7d"),
        (("--limit", "0"), "greater than or equal to 1"),
        (("--watch",), "takes a terminal, and no --json"),
        (("ftp://localhost",), "got 'ftp://localhost', takes a URL such as http://localhost:8081"),
        (("http://localhost:99999",), "got 'http://localhost:99999', takes a URL such as"),
        (("http://localhost/?repository=x",), "takes a URL such as"),
    ],
)
def test_a_wrong_option_says_what_it_takes(options: tuple[str, ...], problem: str) -> None:
    done = CliRunner().invoke(app, ["status", *options])
    assert (done.exit_code, done.stdout) == (2, "")
    assert problem in done.stderr
