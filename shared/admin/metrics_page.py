"""`/metrics`: in the format that the scraper requests, text or OpenMetrics; compressed if it accepts gzip."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from prometheus_client.exposition import gzip_accepted

from shared.admin import exposition
from shared.admin.exposition import Families
from shared.errors import OutdatedError

SLICE = 2**18
"""Bytes of a page that are sent in one iteration of the event loop."""

MOST_READERS = 4
"""Maximum number of requests at a time. Each may have a page in memory, which with many series is large."""

TAKE_SECONDS = 30.0
"""How long a reader may take to read the page, in seconds. Prometheus waits for 10 s by default."""


class Gather(Protocol):
    """Returns the metric families of one scrape. Only a page in OpenMetrics shows exemplars."""

    def __call__(self, *, openmetrics: bool) -> Awaitable[Families]:
        """Gather the families for a page in this format."""


@dataclass(frozen=True, slots=True)
class _Form:
    """The form of a page that a request asks for."""

    openmetrics: bool
    compressed: bool
    to_scraper: bool

    @classmethod
    def of(cls, request: web.Request) -> "_Form":
        return cls(
            openmetrics=exposition.asks_for_openmetrics(_header(request, "Accept")),
            compressed=gzip_accepted(_header(request, "Accept-Encoding")),
            to_scraper=exposition.asks_as_scraper(request.headers),
        )


@dataclass(slots=True)
class _Shared:
    """A page for all requests that came before its rendering began."""

    body: bytes | None = None


class MetricsPage:
    """Renders one page at a time. Requests that wait for the same form of the page share it."""

    def __init__(self, gather: Gather) -> None:
        """`gather` is called at each rendering."""
        self._gather = gather
        self._rendering = asyncio.Lock()
        self._next: dict[_Form, _Shared] = {}
        self._readers = 0

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Answer a scrape, or 503 if there are `MOST_READERS` already."""
        if self._readers >= MOST_READERS:
            return _unavailable(f"{MOST_READERS} requests are being answered already")
        self._readers += 1
        try:
            return await self._answer(request)
        finally:
            self._readers -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        form = _Form.of(request)
        try:
            body = await self._page(form)
        except OutdatedError as error:
            return _unavailable(str(error))
        response = web.StreamResponse(headers={"Content-Type": exposition.content_type(form.openmetrics)})
        if form.compressed:
            response.headers["Content-Encoding"] = "gzip"
        return await _send(request, response, body)

    async def _page(self, form: _Form) -> bytes:
        """Return a page whose rendering begins after this call."""
        page = self._next.setdefault(form, _Shared())
        async with self._rendering:
            if page.body is None:
                if self._next.get(form) is page:
                    del self._next[form]
                page.body = await self._rendered(form)
            return page.body

    async def _rendered(self, form: _Form) -> bytes:
        with suppress(OutdatedError):
            return await self._render(form)
        return await self._render(form)

    async def _render(self, form: _Form) -> bytes:
        families = await self._gather(openmetrics=form.openmetrics)
        return await asyncio.to_thread(
            exposition.page,
            families,
            openmetrics=form.openmetrics,
            compressed=form.compressed,
            to_scraper=form.to_scraper,
        )


def _header(request: web.Request, name: str) -> str:
    return ",".join(request.headers.getall(name, []))


def _unavailable(reason: str) -> web.Response:
    return web.Response(status=503, text=f"{reason}; try again later\n", headers={"Retry-After": "1"})


async def _send(request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
    """Send a body in slices: writing a large one at once would block the event loop.

    The connection of a reader that does not take the page within `TAKE_SECONDS` is closed.
    """
    response.content_length = len(body)
    await response.prepare(request)
    if request.method != "HEAD":
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                await _write(response, body)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:  # the scraper has disconnected
            pass
    return response


async def _write(response: web.StreamResponse, body: bytes) -> None:
    for start in range(0, len(body), SLICE):
        await response.write(body[start : start + SLICE])
        await asyncio.sleep(0)  # `write` does not yield to the event loop while the socket buffer has room
