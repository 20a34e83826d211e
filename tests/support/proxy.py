"""A TCP proxy between a process and its server, with which a test causes network failures."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from yarl import URL

from tests.support.servers.ports import free_port

_CHUNK = 65536
_CHUNKS_UNDER_WAY = 16
_PORTS = {"amqp": 5672, "postgresql": 5432}


class Proxy:
    """A TCP proxy to the server of a URL. Failures affect both directions.

    It listens while the context lasts. `delay` is the latency of each direction in seconds.
    """

    def __init__(self, target: str) -> None:
        self.delay = 0.0
        self._target = URL(target)
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._answers = asyncio.Event()
        self._answers.set()
        self._last: bytes | None = None

    @property
    def url(self) -> str:
        """The target's URL, by way of the proxy."""
        return str(self._target.with_host("127.0.0.1").with_port(self._port))

    @property
    def black_holed(self) -> bool:
        """Whether nothing passes."""
        return not self._flows.is_set()

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._flows.set()
        self._answers.set()
        self.refuse()

    async def heal(self) -> None:
        """Accept connections and pass on everything at once, what was held back first."""
        self.delay = 0.0
        self._last = None
        self._flows.set()
        self._answers.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        connections = list(self._connections)
        for pair in connections:
            _abort(pair)
        return len(connections)

    def refuse(self) -> None:
        """Refuse connections, and reset those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def black_hole(self) -> None:
        """Keep and accept connections, but pass on nothing, not even that one end has closed."""
        self._flows.clear()

    def hold_answers(self) -> None:
        """Pass on what clients send, but nothing that the server sends."""
        self._answers.clear()

    def black_hole_before(self, text: bytes) -> None:
        """Become a black hole as soon as a client sends `text`, which is held back."""
        self._last = text

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._target.host, self._target.port or _PORTS[self._target.scheme]
            )
        except OSError:
            writer.transport.abort()
            return
        with self._connected((writer, far_writer)):
            try:
                async with asyncio.TaskGroup() as ways:
                    self._carry(ways, reader, far_writer, from_client=True)
                    self._carry(ways, far_reader, writer, from_client=False)
            except* OSError:
                pass

    @contextmanager
    def _connected(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> Iterator[None]:
        self._connections.add(pair)
        try:
            yield
        finally:
            self._connections.discard(pair)
            _abort(pair)

    def _carry(
        self, ways: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        """Pass on what comes one way, until it ends."""
        underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)
        ways.create_task(self._take(reader, underway, from_client=from_client))
        ways.create_task(self._pass_on(underway, writer, from_client=from_client))

    async def _take(
        self, reader: asyncio.StreamReader, underway: asyncio.Queue[tuple[float, bytes]], *, from_client: bool
    ) -> None:
        clock = asyncio.get_running_loop().time
        data = b"-"
        while data:
            data = await reader.read(_CHUNK)
            if from_client and self._last is not None and self._last in data:
                self.black_hole()
            await underway.put((clock() + self.delay, data))

    async def _pass_on(
        self, underway: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await underway.get()
            await asyncio.sleep(due - clock())
            await self._flows.wait()
            if not from_client:
                await self._answers.wait()
            if not data:
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()


def _abort(pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
    for writer in pair:
        writer.transport.abort()
