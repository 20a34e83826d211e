"""The admin listener: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever runs the process.

Liveness says that the process serves, and tests nothing else: restarting it heals no broker. Readiness tests the
dependencies, so that no traffic comes to a process that cannot use it.
"""

import asyncio
import errno
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from shared import exposition
from shared.errors import SettingsError
from shared.exposition import OPENMETRICS, Families

CHECK_TIMEOUT = 2.0
"""Seconds that a dependency has to answer a readiness check."""

SLICE = 2**18
"""Bytes of a page that are sent in one turn of the event loop."""

CUT_SECONDS = 0.5
"""Seconds, twice, that requests have to end when the process does: a scraper that reads nothing must not hold it up."""

_TEXT = ("text/plain", "text/*", "*/*")
_WEIGHT = re.compile(r"[01](\.\d{0,3})?")

Check = Callable[[], Awaitable[None]]
"""Returns if a dependency can be used, raises if not."""

Gather = Callable[[], Awaitable[Families]]
"""Returns what to expose."""


class AdminServer:
    """Serves the three paths on a port of its own."""

    def __init__(self, host: str, port: int, gather: Gather, checks: Mapping[str, Check]) -> None:
        """`checks`: a readiness check for each dependency, by its name."""
        self._host = host
        self._port = port
        self._gather = gather
        self._checks = checks
        self._draining = False
        self._rendering = asyncio.Lock()
        application = web.Application()
        application.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=CUT_SECONDS)

    async def start(self) -> None:
        """Listen. Raises `SettingsError` if the address cannot be had."""
        await listen(self._runner, self._host, self._port, "ADMIN")

    def drain(self) -> None:
        """Answer `/readyz` with 503 from now on: the process is about to stop."""
        self._draining = True

    async def close(self) -> None:
        """Stop listening, within twice `CUT_SECONDS`."""
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        states = dict(zip(self._checks, await asyncio.gather(*map(self._state, self._checks.values())), strict=True))
        ready = not self._draining and all(state == "ok" for state in states.values())
        status = "ready" if ready else "draining" if self._draining else "not ready"
        return web.json_response({"status": status, "checks": states}, status=200 if ready else 503)

    async def _state(self, check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await check()
        except TimeoutError:
            return f"no answer within {CHECK_TIMEOUT:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the dependency cannot be used
            return f"failed ({type(error).__name__})"
        return "ok"

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        openmetrics = _prefers_openmetrics(request.headers.getall("Accept", []))
        compressed = _weight(_elements(request.headers.getall("Accept-Encoding", [])), "gzip") > 0
        async with self._rendering:  # one page in memory at a time, however many scrape
            families = await self._gather()
            body = await asyncio.to_thread(exposition.page, families, openmetrics=openmetrics, compressed=compressed)
        headers = {"Content-Type": exposition.content_type(openmetrics)} | (
            {"Content-Encoding": "gzip"} if compressed else {}
        )
        return await _send(request, headers, body)


@dataclass(frozen=True, slots=True)
class _Element:
    """One thing that a client accepts (RFC 9110 section 12.5): lower case, with how much it likes it, 0 to 1."""

    name: str
    version: str
    weight: float


def _elements(headers: Iterable[str]) -> list[_Element]:
    return [_element(text) for header in headers for text in header.lower().split(",")]


def _element(text: str) -> _Element:
    name, *parameters = (part.strip() for part in text.split(";"))
    named = {key.strip(): value.strip() for key, _, value in (p.partition("=") for p in parameters)}
    weight = named.get("q", "1")
    return _Element(name, named.get("version", "1"), float(weight) if _WEIGHT.fullmatch(weight) else 0.0)


def _weight(elements: Iterable[_Element], *names: str) -> float:
    return max((element.weight for element in elements if element.name in names), default=0.0)


def _prefers_openmetrics(headers: Iterable[str]) -> bool:
    """Tell whether the scraper likes OpenMetrics 1 at least as much as text; prometheus_client does not weigh them."""
    elements = _elements(headers)
    wanted = [element for element in elements if element.version.partition(".")[0] == "1"]
    weight = _weight(wanted, OPENMETRICS)
    return weight > 0 and weight >= _weight(elements, *_TEXT)


async def _send(request: web.Request, headers: Mapping[str, str], body: bytes) -> web.StreamResponse:
    """Answer with a body that may be large: sent in one go, that would hold up everything else."""
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    if request.method != "HEAD":
        with suppress(ConnectionError):  # whoever hangs up has had enough
            await _write(response, body)
    return response


async def _write(response: web.StreamResponse, body: bytes) -> None:
    for start in range(0, len(body), SLICE):
        await response.write(body[start : start + SLICE])
        await asyncio.sleep(0)  # a socket that takes everything would leave no turn to others


async def listen(runner: web.BaseRunner, host: str, port: int, kind: str, backlog: int = 128) -> None:
    """Listen on an address.

    `kind`, such as `ADMIN`, is what the settings of the address begin with; if it cannot be had, `SettingsError` names
    the one to change.
    """
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=backlog).start()
    except OSError as error:
        await runner.cleanup()
        number = error.errno or 0  # negative ones are of the resolver
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        setting, takes = "HOST", "an address of this machine"
        if number in {errno.EADDRINUSE, errno.EACCES}:
            setting, takes = "PORT", "a free port that this user may take"
        raise SettingsError(
            f"PROMGITHUB_{kind}_{setting}: cannot listen on {host}:{port} ({reason}); takes {takes}"
        ) from error
