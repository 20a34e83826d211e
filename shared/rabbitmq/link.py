"""One connection to RabbitMQ that comes back, with whatever is used on it.

This stands on aiormq, the protocol layer of aio-pika, and reconnects by itself. aio-pika's robust connection declares
again what it was first told: a queue that has other arguments by then keeps it from ever coming back, and the consumer
of a queue that it only looked up is lost when that queue is deleted. Its objects also cost a publish 40 % more CPU.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiormq
from aiormq.abc import AbstractConnection
from yarl import URL

from shared.errors import BrokerUnavailable
from shared.logs import get_logger
from shared.waiting import is_set_within, pauses

HEARTBEAT_SECONDS = 10
"""RabbitMQ's documentation recommends 5 to 20; aiormq gives up a silent peer after three of these."""

CONNECT_SECONDS = 5.0
"""Deadline of the TCP connection and the AMQP handshake."""

PREPARE_SECONDS = 10.0
"""Deadline of everything that is declared and opened on a connection."""

CLOSE_SECONDS = 2.0
"""Deadline of an orderly end."""

FIRST_PAUSE = 0.5
"""Seconds before the first attempt to reconnect, at most."""

LONGEST_PAUSE = 5.0
"""Seconds that a pause never exceeds."""

POLL_SECONDS = 1.0
"""Time between two looks at whether the broker blocks the connection."""

REPAIR_PAUSE = 0.2
"""Seconds between two preparations, so that a storm of refused messages is not one of declarations."""

_UNBLOCKED_SECONDS = 0.05
_BLOCKED = "RabbitMQ blocks publishers: it is short of memory or disk"

_log = get_logger(__name__)

_Result = TypeVar("_Result")


class Link:
    """Keeps a connection that `prepare` has made ready, until closed.

    `prepare` is called on each new connection, and again after each `nudge`; it leaves alone what is in order. If it
    fails, the connection is given up for a new one.
    """

    def __init__(self, url: URL, name: str, prepare: Callable[[AbstractConnection], Coroutine[Any, Any, None]]) -> None:
        """`name` is what RabbitMQ shows for the connection."""
        self._url = url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT_SECONDS)
        self._name = name
        self._prepare = prepare
        self._task: asyncio.Task[None] | None = None
        self._connection: AbstractConnection | None = None
        self._blocked = False
        self._unprepared = False
        self._wake = asyncio.Event()
        self._pauses = pauses(FIRST_PAUSE, LONGEST_PAUSE)
        self._said = ""
        self.trouble = ""
        """Why the last attempt to connect failed, or the last connection ended."""

    def start(self) -> None:
        """Begin to connect, unless begun already."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    @property
    def address(self) -> str:
        """Where RabbitMQ is, for a message."""
        return self._url.host_port_subcomponent or "localhost"

    @property
    def up(self) -> bool:
        """Whether there is a prepared connection that the broker does not block."""
        return self._connection is not None and not self._connection.is_closed and not self._blocked

    @property
    def connection(self) -> AbstractConnection:
        """The connection. Raises `BrokerUnavailable` unless `up`."""
        connection = self._connection
        if connection is None or connection.is_closed:
            raise BrokerUnavailable("no connection to RabbitMQ")
        if self._blocked:
            raise BrokerUnavailable(_BLOCKED)
        return connection

    def nudge(self) -> None:
        """Ask for another preparation, soon."""
        self._unprepared = True
        self._wake.set()

    async def close(self) -> None:
        """Close the connection and stay closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=2 * CLOSE_SECONDS)

    async def _run(self) -> None:
        while True:
            try:
                with cut_as_error():
                    await self._session()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next attempt may succeed
                self.trouble = describe(error)
                self._say(_log.warning, "no connection to RabbitMQ, trying again", reason=self.trouble)
            await asyncio.sleep(next(self._pauses))

    async def _session(self) -> None:
        """Connect, and keep the connection prepared; it ends with an exception."""
        connection = aiormq.Connection(self._url, client_properties={"connection_name": self._name})
        try:
            await within(CONNECT_SECONDS, connection.connect())
            connection.closing.add_done_callback(lambda _: self._wake.set())
            await self._keep(connection)
        finally:
            self._connection = None
            await _closed(connection)

    async def _keep(self, connection: AbstractConnection) -> None:
        self._blocked, self._unprepared = False, True
        while not connection.is_closed:
            if self._unprepared and not self._blocked:
                self._unprepared = False
                await within(PREPARE_SECONDS, self._prepare(connection))
                if self._connection is None:
                    self._connection, self._pauses = connection, pauses(FIRST_PAUSE, LONGEST_PAUSE)
                    self._say(_log.info, "connected to RabbitMQ")
                await asyncio.sleep(REPAIR_PAUSE)
            await is_set_within(self._wake, POLL_SECONDS)
            self._wake.clear()
            await self._look(connection)
        raise ConnectionError(f"closed: {describe(_reason(connection))}")

    async def _look(self, connection: AbstractConnection) -> None:
        """Find out whether the broker blocks the connection, which it tells once something is published."""
        try:
            async with asyncio.timeout(_UNBLOCKED_SECONDS):
                await connection.ready()
        except TimeoutError:
            self._blocked = True
            self._say(_log.warning, _BLOCKED)
        else:
            if self._blocked:
                self._blocked = False
                self._say(_log.info, "RabbitMQ takes messages again")

    def _say(self, log: Callable[..., Any], event: str, **details: str) -> None:
        """Log a change of state; the same state and reason only once."""
        said = f"{event} {details}"
        if said != self._said:
            self._said = said
            log(event, connection=self._name, broker=self._url.host_port_subcomponent, **details)


async def within(seconds: float, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what `work` returns. Raises `TimeoutError` after so long, even if it does not end when cancelled.

    (A call to a broker that has stopped reading waits, when cancelled, for room to tell the broker so.)
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_retrieve)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    if not task.done():
        raise TimeoutError(f"no answer within {seconds:g} s")
    with cut_as_error():
        return task.result()


class cut_as_error:  # noqa: N801 - reads as the context that it is
    """Turn a cancellation that nobody asked for, and an exception that says nothing, into `ConnectionError`.

    When a connection is cut, aiormq may cancel what its users wait for, which looks like a cancellation of them, or end
    it with a bare `Exception`.
    """

    __slots__ = ("_requests", "_task")

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._requests = self._task.cancelling() if self._task else 0

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: object) -> None:
        if kind is Exception or (kind is asyncio.CancelledError and not self._asked_for()):
            raise ConnectionError("the connection was cut") from None

    def _asked_for(self) -> bool:
        return self._task is not None and self._task.cancelling() > self._requests


def describe(error: BaseException | None) -> str:
    """Return the kind and the text of an error, for logs."""
    return f"{type(error).__name__}: {error}" if error is not None else "no reason given"


def _reason(connection: AbstractConnection) -> BaseException | None:
    closing = connection.closing
    return None if closing.cancelled() else closing.exception()


async def _closed(connection: AbstractConnection) -> None:
    """Close a connection, or leave it to its fate after `CLOSE_SECONDS`."""
    try:
        await within(CLOSE_SECONDS, connection.close(aiormq.ConnectionClosed(200, "closed by promgithub")))
    except (OSError, aiormq.AMQPError) as error:
        _log.debug("could not close the connection in order", reason=describe(error))


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Look at a task's error, which asyncio would report as never retrieved where nobody waits any longer."""
    if not task.cancelled():
        task.exception()
