"""The public listener: HTTP of anyone who can reach the port, until it is drained."""

import asyncio

from aiohttp import web

from ingest.answers import Outcome, Refusal
from ingest.webhook import Webhook
from shared.errors import SettingsError

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted: a burst opens many at once."""

DRAIN_SECONDS = 18.0
"""Seconds that requests in flight have to finish; none takes longer than reading a body and publishing it may."""

CUT_SECONDS = 1.0
"""Seconds, twice, that connections which are still not idle have to end after that."""


_NOT_HTTP = "the request must be well-formed HTTP/1.1 with headers of at most 8190 bytes each"


class Listener:
    """Serves a webhook on a port."""

    def __init__(self, webhook: Webhook, host: str, port: int) -> None:
        """Make a listener that does not listen yet."""
        self._webhook = webhook
        self._host = host
        self._port = port
        self._runner = web.ServerRunner(_Server(webhook), shutdown_timeout=CUT_SECONDS)

    async def start(self) -> None:
        """Listen. Raises `SettingsError` if the address cannot be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=BACKLOG).start()
        except OSError as error:
            await self._runner.cleanup()
            reason = error.strerror or str(error)
            raise SettingsError(
                f"PROMGITHUB_SERVICE_PORT: cannot listen on {self._host}:{self._port} ({reason}); takes a free port"
            ) from error

    async def close(self) -> None:
        """Accept no more connections, answer what is in flight, end the rest; takes 20 s at most."""
        for site in self._runner.sites:
            await site.stop()
        # aiohttp's own shutdown would no longer read the bodies that are still arriving.
        await self._webhook.drain(DRAIN_SECONDS)
        await self._runner.cleanup()


class _Server(web.Server):
    """Makes a `_Connection` for each connection."""

    def __init__(self, webhook: Webhook) -> None:
        super().__init__(webhook.handle)
        self._webhook = webhook

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._webhook)


class _Connection(web.RequestHandler):
    """Answers what is not HTTP as everything else is answered: in JSON, counted, and without a trace in the log."""

    __slots__ = ("_webhook",)

    def __init__(self, server: web.Server, webhook: Webhook) -> None:
        # The signature covers the bytes as sent, so nothing may decompress them on the way.
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, access_log=None, auto_decompress=False)  # type: ignore[arg-type]
        self._webhook = webhook

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
