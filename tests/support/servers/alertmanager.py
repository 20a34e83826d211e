"""Alertmanager for tests: a private instance with a configuration of the test's own, and what its API says."""

import os
import shutil
import signal
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp

from tests.support.servers.daemon import Daemon
from tests.support.servers.errors import MissingServerError
from tests.support.servers.web import WebServer

HOW_TO_INSTALL = """\
  Debian, Ubuntu   sudo apt-get install prometheus-alertmanager
  macOS            brew install alertmanager"""


def installed(*names: str) -> str:
    """Return the path of a program, which has one of these names. Raises `MissingServerError` if there is none."""
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        raise MissingServerError(f"Alertmanager ({names[0]}) is not installed:\n{HOW_TO_INSTALL}")
    return path


class Alertmanager(WebServer):
    """A private Alertmanager that is no member of a cluster.

    Raises `MissingServerError` when created where Alertmanager is not installed.
    """

    name = "Alertmanager"
    graceful = signal.SIGTERM

    def __init__(self, config: str) -> None:
        """`config`: the text of its `alertmanager.yml`; files that it names are named by absolute paths."""
        self._program = installed("prometheus-alertmanager", "alertmanager")
        self._config = config
        super().__init__(self._program)

    def _prepare(self) -> Daemon:
        config = self.directory / "alertmanager.yml"
        config.write_text(self._config, "utf-8")
        options = {
            "config.file": str(config),
            "storage.path": str(self.directory / "data"),
            "web.listen-address": f"127.0.0.1:{self.port}",
            "cluster.listen-address": "",
        }
        command = [self._program, *(f"--{name}={value}" for name, value in options.items())]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        return Daemon(command, environment, self.directory / "server.log")

    async def fire(self, alerts: Iterable[Mapping[str, Mapping[str, str]]]) -> None:
        """Hand over alerts as Prometheus does: each with `labels`, and with `annotations` if it has any."""
        async with (
            aiohttp.ClientSession(raise_for_status=True) as client,
            client.post(f"{self.url}/api/v2/alerts", json=list(alerts)),
        ):
            pass

    async def alerts(self) -> list[Any]:
        """Return all alerts, each with its `labels` and its `status`."""
        async with (
            aiohttp.ClientSession(raise_for_status=True) as client,
            client.get(f"{self.url}/api/v2/alerts") as answer,
        ):
            return list(await answer.json())
