"""The responses of the receiver, as aiohttp sends them."""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web

from ingest.outcomes import RETRY_AFTER, Answer
from ingest.validation import JSON

_SERVER = "promgithub"
_FREQUENT = (202, 503)  # accepted, and refused in an overload; never the answer to a HEAD


def response(answer: Answer) -> web.StreamResponse:
    """Return the response with an answer to a POST, or with a refusal of any request."""
    if answer.status in _FREQUENT:
        return _InOnePiece(answer)
    headers = {"Content-Type": JSON, "Server": _SERVER}
    if answer.status == 405:
        headers["Allow"] = "POST"
    return web.Response(status=answer.status, body=answer.body, headers=headers)


class _InOnePiece(web.StreamResponse):
    """A response that is built and written at once: aiohttp's own way is a tenth of the CPU time of a receiver."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(status=answer.status)
        self._answer = answer
        self._kept: bool | None = None

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open; None before `prepare`, unless `force_close` was called."""
        return self._kept

    def force_close(self) -> None:
        """Close the connection after this response."""
        self._kept = False

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write the response. Raises `ConnectionResetError` if the client has disconnected."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        if self._kept is None:
            self._kept = request.keep_alive
        persistent = "" if request.version >= (1, 1) else "keep-alive"
        answer, connection = self._answer, persistent if self._kept else "close"
        head = _head(answer.status, RETRY_AFTER.get(answer.outcome), len(answer.body), connection, int(time.time()))
        transport.write(head + answer.body)

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has written everything."""


@lru_cache(maxsize=64)
def _head(status: int, retry_after: str | None, length: int, connection: str, now: int) -> bytes:
    """Return the status line and the headers of a response; `now` is in Unix seconds."""
    headers = {"Content-Type": JSON, "Server": _SERVER, "Content-Length": length, "Date": formatdate(now, usegmt=True)}
    if retry_after:
        headers["Retry-After"] = retry_after
    if connection:
        headers["Connection"] = connection
    lines = (f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items()))
    return "\r\n".join((*lines, "", "")).encode()
