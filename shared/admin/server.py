"""The admin listener: the pages for operators, on a port of their own."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from shared.admin.health import Check, Readiness, livez
from shared.admin.metrics_page import Gather, MetricsPage
from shared.errors import SettingsError

SHUTDOWN_SECONDS = 0.5
"""Seconds that aiohttp waits, twice, for requests to end when the process stops."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""Answers a GET request."""

Routes = dict[str, Handler]
"""The handler of each path."""


def standard_routes(gather: Gather, checks: Mapping[str, Check], stop: asyncio.Event) -> Routes:
    """Return the routes that every process has; a role adds its own, its `routes`, with `|`."""
    return {
        "/livez": livez,
        "/readyz": Readiness(checks, stop).readyz,
        "/metrics": MetricsPage(gather).metrics,
    }


class AdminServer:
    """Serves routes on a port of its own, between `start` and `close`."""

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        self._host = host
        self._port = port
        application = web.Application()
        application.add_routes([web.get(path, handler) for path, handler in routes.items()])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)

    async def start(self) -> None:
        """Listen. Raises `SettingsError` if the address cannot be used."""
        await listen(self._runner, self._host, self._port, "ADMIN")

    async def close(self) -> None:
        """Stop listening, within twice `SHUTDOWN_SECONDS`."""
        await self._runner.cleanup()


async def listen(runner: web.BaseRunner, host: str, port: int, kind: str, backlog: int = 128) -> None:
    """Listen on an address.

    `kind`, such as `ADMIN`, is the first word of the address's settings. If the address cannot be used, this raises
    `SettingsError`, which names the setting to change.
    """
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=backlog).start()
    except OSError as error:
        await runner.cleanup()
        number = error.errno or 0  # the resolver's errors are negative
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        setting, takes = "HOST", "an address of this machine"
        if number in {errno.EADDRINUSE, errno.EACCES}:
            setting, takes = "PORT", "a free port that this user may take"
        raise SettingsError(
            f"PROMGITHUB_{kind}_{setting}: cannot listen on {host}:{port} ({reason}); takes {takes}"
        ) from error
