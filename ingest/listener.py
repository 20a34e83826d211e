"""The public listener: the HTTP server for webhooks."""

import asyncio
import math
import os
import socket
import time

from aiohttp import web

from ingest.outcomes import Refusal, RequestOutcome
from ingest.webhook import Webhook
from shared.admin.server import listen

BACKLOG = 4096
"""Length of the kernel's accept queue, which Linux limits to `net.core.somaxconn` (4096 by default since Linux 5.4).

A burst opens many connections at once. One that finds the queue full is tried again after 1 s, and then after 3 s."""

ACCEPTED_AT_ONCE = 16
"""Maximum number of connections that are accepted in one iteration of the event loop.

libuv accepts one for each listening socket that it watches (https://github.com/libuv/libuv/pull/3696). In an overload,
an iteration takes 0.1 s or more, and the others would wait until the overload is over."""

DRAIN_SECONDS = 18.0
"""How long requests in progress may take to finish during shutdown, in seconds.

This is more than the timeouts of reading a body and of publishing together."""

CUT_SECONDS = 1.0
"""Seconds that aiohttp then waits, twice, for connections that are still busy."""

HEAD_SECONDS = 10.0
"""Timeout of receiving the headers of a request, in seconds, from the connection or the first byte of the headers."""

SWEEP_SECONDS = 0.5
"""How often slow connections are checked, in seconds. A timer for each request would cost more."""

_NOT_HTTP = "the request must be well-formed HTTP/1.1 with headers of at most 8190 bytes each"


class Listener:
    """Serves a webhook on a port."""

    def __init__(self, webhook: Webhook, host: str, port: int) -> None:
        self._webhook = webhook
        self._host = host
        self._port = port
        self._server = _Server(webhook)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=CUT_SECONDS)
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises `SettingsError` if the address cannot be used."""
        await listen(self._runner, self._host, self._port, "SERVICE", BACKLOG)
        for listening in self._sockets():
            for _ in range(1, ACCEPTED_AT_ONCE):
                await web.SockSite(self._runner, socket.socket(fileno=os.dup(listening)), backlog=BACKLOG).start()
        self._sweeping = asyncio.create_task(self._server.sweep())

    async def close(self) -> None:
        """Stop listening, answer the requests in progress, and close all connections. Takes at most 20 s."""
        for site in self._runner.sites:
            await site.stop()
        # aiohttp's own shutdown would no longer read the bodies that are still arriving.
        await self._webhook.drain(DRAIN_SECONDS)
        await self._runner.cleanup()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _sockets(self) -> list[int]:
        """Return the descriptors of the listening sockets: an address may have several.

        aiohttp's public interface has only their addresses.
        """
        servers = (site._server for site in self._runner.sites)
        return [one.fileno() for server in servers for one in getattr(server, "sockets", ())]


class _Server(web.Server):
    """Creates a `_Connection` for each connection."""

    def __init__(self, webhook: Webhook) -> None:
        super().__init__(self._handle)
        self._webhook = webhook

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._webhook)

    async def sweep(self) -> None:
        """Close connections whose headers are late, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for connection in self.connections:
                if isinstance(connection, _Connection) and now - connection.waiting_since > HEAD_SECONDS:
                    connection.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)  # noqa: S101 - this server creates no others
        connection.waiting_since = math.inf
        connection.handling = True
        try:
            return await self._webhook.handle(request)
        finally:
            connection.handling = False


class _Connection(web.RequestHandler):
    """Answers malformed HTTP like any other refused request: in JSON, counted, and without a traceback in the log."""

    __slots__ = ("_webhook", "handling", "waiting_since")

    def __init__(self, server: web.Server, webhook: Webhook) -> None:
        # The signature covers the bytes as sent, so aiohttp must not decompress them.
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, access_log=None, auto_decompress=False)  # type: ignore[arg-type]
        self._webhook = webhook
        self.handling = False
        """Whether a request is being answered."""
        self.waiting_since = time.monotonic()
        """Start of the wait for the headers of the next request; infinity if there is no such wait."""

    def data_received(self, data: bytes) -> None:
        """Handle received bytes. They may be the first bytes of the next headers."""
        if not self.handling and self.waiting_since == math.inf:
            self.waiting_since = time.monotonic()
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that cannot be parsed."""
        response = self._webhook.refuse(request, Refusal(400, RequestOutcome.BAD_REQUEST, _NOT_HTTP))
        response.force_close()
        return response
