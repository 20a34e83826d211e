"""The responses of the receiver, as aiohttp sends them."""

import time
from email.utils import formatdate
from functools import lru_cache

from aiohttp import web

from ingest.outcomes import RETRY_AFTER, Answer
from ingest.validation import JSON

_SERVER = "promgithub"


def response(answer: Answer) -> web.StreamResponse:
    """Return the response with an answer."""
    if answer.status == 202:
        return _Accepted(answer.body)
    headers = {"Content-Type": JSON, "Server": _SERVER}
    if answer.status == 503:
        headers["Retry-After"] = RETRY_AFTER[answer.outcome]
    if answer.status == 405:
        headers["Allow"] = "POST"
    return web.Response(status=answer.status, body=answer.body, headers=headers)


class _Accepted(web.StreamResponse):
    """The response 202, written in one piece: aiohttp's own way is a tenth of the CPU time of a receiver."""

    def __init__(self, body: bytes) -> None:
        super().__init__(status=202)
        self._line = body
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
        head = _head(int(time.time()), persistent if self._kept else "close", len(self._line))
        transport.write(head + self._line)

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has written everything."""


@lru_cache(maxsize=16)
def _head(now: int, connection: str, length: int) -> bytes:
    """Return the status line and the headers of a response 202; `now` is in Unix seconds."""
    headers = {"Content-Type": JSON, "Server": _SERVER, "Content-Length": length, "Date": formatdate(now, usegmt=True)}
    if connection:
        headers["Connection"] = connection
    lines = ("HTTP/1.1 202 Accepted", *(f"{name}: {value}" for name, value in headers.items()))
    return "\r\n".join((*lines, "", "")).encode()
