"""Reading the bodies of requests, with limits on size, time, and the memory of all bodies together."""

import asyncio

from aiohttp import StreamReader, web

from ingest.outcomes import Refusal, RequestOutcome

MAX_BODY = 25 * 1024 * 1024
"""Maximum size of a body in bytes. GitHub delivers no payload larger than 25 MB (GitHub docs, "Webhook events and
payloads")."""

MAX_HELD = 256 * 1024 * 1024
"""Maximum bytes of all bodies that are in memory at the same time."""

READ_SECONDS = 10.0
"""Timeout of receiving a body, in seconds. GitHub's own timeout is 10 s; a slow client must not block others."""


class Bodies:
    """Reads bodies and counts the bytes that are in memory."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        """`max_held` is the maximum bytes in memory at the same time."""
        self._max_held = max_held
        self._held = 0

    def admit(self, declared: int | None) -> None:
        """Check `Content-Length`, in bytes, before the body is read. Raises `Refusal` (413, 503)."""
        self._check(declared or 0, self._held + (declared or 0))

    async def read(self, content: StreamReader) -> bytes:
        """Return a body. It counts as in memory until `release` is called with it.

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
            raise Refusal(408, RequestOutcome.BAD_REQUEST, error) from None
        except (OSError, RuntimeError, web.RequestPayloadError):  # RuntimeError: aiohttp, if the connection is closed
            raise Refusal(400, RequestOutcome.BAD_REQUEST, "the body must be complete") from None

    def release(self, body: bytes) -> None:
        """Stop counting a body as in memory."""
        self._held -= len(body)

    async def _gather(self, content: StreamReader) -> bytes:
        # Not a list of pieces: with tiny pieces, it would need many times the size of the body.
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
            raise Refusal(413, RequestOutcome.TOO_LARGE, f"a body may have at most {MAX_BODY} bytes")
        if held > self._max_held:
            raise Refusal(503, RequestOutcome.SHED, "too many bytes in flight; try again")
