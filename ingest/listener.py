"""The public listener: HTTP of anyone who can reach the port, until it is drained."""

import asyncio
import math
import time

from aiohttp import web

from ingest.answers import Outcome, Refusal
from ingest.webhook import Webhook
from shared.admin import listen

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted: a burst opens many at once."""

DRAIN_SECONDS = 18.0
"""Seconds that requests in flight have to finish; none takes longer than reading a body and publishing it may."""

CUT_SECONDS = 1.0
"""Seconds, twice, that connections which are still not idle have to end after that."""

HEAD_SECONDS = 10.0
"""Seconds that the headers of a request may take to arrive, from when the connection is made or they begin."""

SWEEP_SECONDS = 0.5
"""Seconds between looks at whose headers are late: a timer for each request would cost more."""

_NOT_HTTP = "the request must be well-formed HTTP/1.1 with headers of at most 8190 bytes each"


class Listener:
    """Serves a webhook on a port."""

    def __init__(self, webhook: Webhook, host: str, port: int) -> None:
        """Make a listener that does not listen yet."""
        self._webhook = webhook
        self._host = host
        self._port = port
        self._server = _Server(webhook)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=CUT_SECONDS)
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises `SettingsError` if the address cannot be had."""
        await listen(self._runner, self._host, self._port, "SERVICE", BACKLOG)
        self._sweeping = asyncio.create_task(self._server.sweep())

    async def close(self) -> None:
        """Accept no more connections, answer what is in flight, end the rest; takes 20 s at most."""
        for site in self._runner.sites:
            await site.stop()
        # aiohttp's own shutdown would no longer read the bodies that are still arriving.
        await self._webhook.drain(DRAIN_SECONDS)
        await self._runner.cleanup()
        if self._sweeping is not None:
            self._sweeping.cancel()


class _Server(web.Server):
    """Makes a `_Connection` for each connection."""

    def __init__(self, webhook: Webhook) -> None:
        super().__init__(self._handle)
        self._webhook = webhook

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._webhook)

    async def sweep(self) -> None:
        """End connections whose next request is late, for as long as this is not cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for connection in self.connections:
                if isinstance(connection, _Connection) and now - connection.waiting_since > HEAD_SECONDS:
                    connection.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)  # noqa: S101 - this server makes no others
        connection.waiting_since = math.inf
        connection.handling = True
        try:
            return await self._webhook.handle(request)
        finally:
            connection.handling = False


class _Connection(web.RequestHandler):
    """Answers what is not HTTP as everything else is answered: in JSON, counted, and without a trace in the log."""

    __slots__ = ("_webhook", "handling", "waiting_since")

    def __init__(self, server: web.Server, webhook: Webhook) -> None:
        # The signature covers the bytes as sent, so nothing may decompress them on the way.
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, access_log=None, auto_decompress=False)  # type: ignore[arg-type]
        self._webhook = webhook
        self.handling = False
        """Whether a request is being answered."""
        self.waiting_since = time.monotonic()
        """When the headers that are still incomplete began to be waited for; infinity where none are."""

    def data_received(self, data: bytes) -> None:
        """Take what arrived, which may be the first bytes of the next headers."""
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
        response = self._webhook.refuse(request, Refusal(400, Outcome.BAD_REQUEST, _NOT_HTTP))
        response.force_close()
        return response
