"""The helper that runs promgithub as a subprocess, tried on a stand-in that only answers `/readyz`."""

import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import Launcher

STAND_IN = """
import http.server, os

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass

print("secret is", os.environ["PROMGITHUB_WEBHOOK_SECRET"], flush=True)
address = (os.environ["PROMGITHUB_ADMIN_HOST"], int(os.environ["PROMGITHUB_ADMIN_PORT"]))
http.server.HTTPServer(address, Ready).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> list[str]:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return [sys.executable, str(script)]


async def test_a_process_gets_its_settings_and_is_ready_when_it_answers(
    launcher: Launcher, stand_in: list[str]
) -> None:
    process = launcher.start_command(stand_in, WEBHOOK_SECRET="abc")

    await process.ready()

    assert process.log == "secret is abc"


async def test_a_killed_process_starts_again_on_the_same_ports(launcher: Launcher, stand_in: list[str]) -> None:
    process = launcher.start_command(stand_in, WEBHOOK_SECRET="abc")
    await process.ready()
    address = process.admin_url

    await process.kill()
    assert not process.running
    process.start()
    await process.ready()

    assert process.admin_url == address
    assert await process.terminate() == -signal.SIGTERM


async def test_a_process_that_ends_early_fails_the_test_with_its_log(launcher: Launcher, stand_in: list[str]) -> None:
    process = launcher.start_command(stand_in)

    with pytest.raises(AssertionError, match="KeyError: 'PROMGITHUB_WEBHOOK_SECRET'"):
        await process.ready()


async def test_a_process_that_never_gets_ready_fails_the_test_in_time(launcher: Launcher) -> None:
    process = launcher.start_command(["sleep", "60"])

    with pytest.raises(AssertionError, match=r"sleep 60 is not ready after 0\.3 s"):
        await process.ready(within=0.3)
