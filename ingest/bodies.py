"""Reading the bodies of requests within bounds: of size, of time, and of memory over all of them."""

import asyncio

from aiohttp import StreamReader, web

from ingest.answers import Outcome, Refusal

MAX_BODY = 25 * 1024 * 1024
"""Bytes of a body that are accepted. GitHub delivers no payload over 25 MB (GitHub docs, "Webhook events and
payloads"), which is at most this."""

MAX_HELD = 256 * 1024 * 1024
"""Bytes of bodies that are held at the same time, of whatever number of requests."""

READ_SECONDS = 10.0
"""Seconds that a body may take to arrive: a slow sender must not keep others out, and GitHub gives up after 10."""


class Bodies:
    """Reads bodies and knows how many bytes of them are held."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        """`max_held`: bytes that may be held at the same time."""
        self._max_held = max_held
        self._held = 0

    def admit(self, declared: int | None) -> None:
        """Check `Content-Length`, in bytes, before anything is read. Raises `Refusal` (413, 503)."""
        self._check(declared or 0, self._held + (declared or 0))

    async def read(self, content: StreamReader) -> bytes:
        """Return a body, which counts as held until it is given to `release`.

        Raises `Refusal` (400, 408, 413, 503).
        """
        try:
            if content.is_eof():
                body = content.read_nowait()
                self._check(len(body), self._held + len(body))
                self._held += len(body)
                return body
            async with asyncio.timeout(READ_SECONDS):
                return await self._gather(content)
        except TimeoutError:
            error = f"the body must arrive within {READ_SECONDS:g} s"
            raise Refusal(408, Outcome.BAD_REQUEST, error) from None
        except (OSError, RuntimeError, web.RequestPayloadError):  # RuntimeError: aiohttp, of a connection that is gone
            raise Refusal(400, Outcome.BAD_REQUEST, "the body must be complete") from None

    def release(self, body: bytes) -> None:
        """Hold a body no longer."""
        self._held -= len(body)

    async def _gather(self, content: StreamReader) -> bytes:
        # Not a list: a body of tiny pieces would need many times its size.
        body = bytearray()
        complete = False
        try:
            while piece := await content.readany():
                body += piece
                self._held += len(piece)
                self._check(len(body), self._held)
            complete = True
            return bytes(body)
        finally:
            if not complete:
                self._held -= len(body)

    def _check(self, size: int, held: int) -> None:
        if size > MAX_BODY:
            raise Refusal(413, Outcome.TOO_LARGE, f"a body may have {MAX_BODY} bytes")
        if held > self._max_held:
            raise Refusal(503, Outcome.SHED, "too many bytes in flight; try again")
