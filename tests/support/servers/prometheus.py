"""Prometheus for tests: a private instance with a configuration of the test's own, and what its HTTP API answers."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.support.servers.daemon import Daemon
from tests.support.servers.errors import MissingServerError, PrometheusError
from tests.support.servers.web import WebServer

_ANSWER_SECONDS = 10.0
_PAST_SECONDS = 60.0

HOW_TO_INSTALL = """\
  Debian, Ubuntu   sudo apt-get install prometheus
  macOS            brew install prometheus"""


class PrometheusServer(WebServer):
    """A private Prometheus.

    Raises `MissingServerError` when created where Prometheus is not installed.
    """

    name = "Prometheus"
    graceful = signal.SIGTERM

    def __init__(self, config: str, past: str = "", features: Sequence[str] = ()) -> None:
        """`config`: the text of its `prometheus.yml`; files that it names are named by absolute paths.

        `past`: samples that it has from the start, in OpenMetrics with timestamps. `features`: its feature flags.
        """
        program = shutil.which("prometheus")
        if program is None:
            raise MissingServerError(f"Prometheus is not installed:\n{HOW_TO_INSTALL}")
        self._program = program
        self._config = config
        self._past = past
        self._features = features
        super().__init__(program)

    def _prepare(self) -> Daemon:
        config = self.directory / "prometheus.yml"
        config.write_text(self._config, "utf-8")
        if self._past:
            self._store_past()
        options = {
            "config.file": str(config),
            "storage.tsdb.path": str(self.directory / "data"),
            "web.listen-address": f"127.0.0.1:{self.port}",
        }
        if self._features:
            options["enable-feature"] = ",".join(self._features)
        command = [self._program, *(f"--{name}={value}" for name, value in options.items())]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        return Daemon(command, environment, self.directory / "server.log")

    def _store_past(self) -> None:
        samples = self.directory / "past.txt"
        samples.write_text(self._past, "utf-8")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(samples), str(self.directory / "data")]
        subprocess.run(command, check=True, capture_output=True, timeout=_PAST_SECONDS)

    async def own_metrics(self) -> str:
        """Return what Prometheus says about itself."""
        async with aiohttp.ClientSession() as client, client.get(f"{self.url}/metrics") as answer:
            return await answer.text()

    async def api(self, endpoint: str, **parameters: str) -> Any:
        """Return the `data` of an answer of `/api/v1/<endpoint>`. Raises `PrometheusError` with what it refuses."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as client,
            client.get(f"{self.url}/api/v1/{endpoint}", params=parameters) as answer,
        ):
            content = await answer.json()
        if content["status"] != "success":
            raise PrometheusError(content["error"])
        return content["data"]
