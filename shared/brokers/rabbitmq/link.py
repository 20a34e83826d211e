"""A connection to RabbitMQ that reconnects by itself and prepares its channels again.

It uses aio-pika's plain connection, not `RobustConnection`. docs/decisions/0008 explains why.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ConnectionClosed
from yarl import URL

from shared.brokers.rabbitmq.underlay import Connection, is_blocked, keep_reasons_of_refusals
from shared.errors import BrokerUnavailable, UnsafeQueue
from shared.logs import get_logger
from shared.waiting import is_set_within, pauses

HEARTBEAT_SECONDS = 10
"""Heartbeat interval. RabbitMQ recommends 5 to 20 s; aio-pika disconnects after three silent intervals."""

CONNECT_SECONDS = 5.0
"""Timeout of the TCP connection and the AMQP handshake."""

PREPARE_SECONDS = 10.0
"""Timeout of `prepare`: all declarations and channels of a connection."""

DISCONNECT_SECONDS = 2.0
"""Timeout of Connection.Close."""

FIRST_RECONNECT_PAUSE = 0.5
"""Maximum pause before the first attempt to reconnect, in seconds."""

LONGEST_RECONNECT_PAUSE = 5.0
"""Maximum pause between attempts to reconnect, in seconds."""

POLL_SECONDS = 1.0
"""How often the link checks whether RabbitMQ blocks the connection."""

REPAIR_PAUSE = 0.2
"""Minimum time between two calls of `prepare`, in seconds, so that many refused messages cause few declarations."""

_BLOCKED = "RabbitMQ blocks publishers: it is short of memory or disk"

_REFUSALS = ("ACCESS_REFUSED", "NOT_ALLOWED", "NOT_FOUND")
"""How RabbitMQ's replies about rights, virtual hosts and limits begin (AMQP 0-9-1: codes 403, 530, 404)."""

_log = get_logger(__name__)

_Result = TypeVar("_Result")


class Link:
    """Keeps one connection open and prepared, until `close`.

    The link calls `prepare` with each new connection, and again after each `nudge`. `prepare` must be idempotent. If it
    fails, the link opens a new connection.
    """

    def __init__(self, url: URL, name: str, prepare: Callable[[AbstractConnection], Coroutine[Any, Any, None]]) -> None:
        """RabbitMQ shows `name` as the name of the connection."""
        keep_reasons_of_refusals()
        self._url = url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT_SECONDS)
        self._name = name
        self._prepare = prepare
        self._task: asyncio.Task[None] | None = None
        self._connection: AbstractConnection | None = None
        self._blocked = False
        self._unprepared = False
        self._wake = asyncio.Event()
        self._prepared = asyncio.Event()
        self._pauses = pauses(FIRST_RECONNECT_PAUSE, LONGEST_RECONNECT_PAUSE)
        self._said = ""
        self._failure = ""

    def start(self) -> None:
        """Start to connect. Does nothing if it was called before."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    @property
    def address(self) -> str:
        """Host and port of RabbitMQ, for error messages."""
        return self._url.host_port_subcomponent or "localhost"

    @property
    def up(self) -> bool:
        """Whether there is a prepared connection that RabbitMQ does not block."""
        return self._connection is not None and self._connection.connected.is_set() and not self._blocked

    @property
    def trouble(self) -> str:
        """Why the last attempt to connect failed, the last connection ended, or RabbitMQ blocks this one."""
        return _BLOCKED if self._blocked else self._failure

    @property
    def connection(self) -> AbstractConnection:
        """The connection. Raises `BrokerUnavailable` unless `up`."""
        connection = self._connection
        if connection is None or not connection.connected.is_set():
            raise BrokerUnavailable("no connection to RabbitMQ")
        if self._blocked:
            raise BrokerUnavailable(_BLOCKED)
        return connection

    async def holds_within(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait at most `seconds` until `condition` holds; return whether it does.

        Checks the condition now, and after each call of `prepare` and each Connection.Unblocked.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            self._prepared.clear()
            if not await is_set_within(self._prepared, deadline - time.monotonic()):
                return condition()
        return True

    def nudge(self) -> None:
        """Request another call of `prepare`, soon."""
        self._unprepared = True
        self._wake.set()

    async def close(self) -> None:
        """Close the connection and stay closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=2 * DISCONNECT_SECONDS)

    async def _run(self) -> None:
        while True:
            try:
                with cut_as_error():
                    await self._session()
            except UnsafeQueue as error:
                self._failure = str(error)
                self._say(_log.error, "RabbitMQ is not used, retrying", reason=self._failure)
            except Exception as error:  # noqa: BLE001 - the next attempt may succeed whatever the error was
                self._failure = describe(error)
                event = "RabbitMQ refuses the connection" if is_refusal(error) else "no connection to RabbitMQ"
                self._say(_log.warning, f"{event}, retrying", reason=self._failure)
            await asyncio.sleep(next(self._pauses))

    async def _session(self) -> None:
        """Connect and keep the connection prepared. Always ends with an exception."""
        connection = Connection(self._url, self._name)
        lost = _Loss(self._wake)
        connection.close_callbacks.add(lost)
        try:
            await within(CONNECT_SECONDS, connection.connect())
            await self._keep(connection)
            raise ConnectionError(f"closed: {describe(lost.reason)}")
        finally:
            self._connection = None
            await _closed(connection)

    async def _keep(self, connection: AbstractConnection) -> None:
        """Call `prepare` at the start and after each `nudge`, until the connection is lost."""
        self._blocked, self._unprepared = False, True
        while connection.connected.is_set():
            if self._unprepared and not self._blocked:
                self._unprepared = False
                await within(PREPARE_SECONDS, self._prepare(connection))
                if self._connection is None:
                    self._connection, self._pauses = connection, pauses(FIRST_RECONNECT_PAUSE, LONGEST_RECONNECT_PAUSE)
                    self._say(_log.info, "connected to RabbitMQ")
                self._prepared.set()
                await asyncio.sleep(REPAIR_PAUSE)
            await is_set_within(self._wake, POLL_SECONDS)
            self._wake.clear()
            await self._check_blocked(connection)

    async def _check_blocked(self, connection: AbstractConnection) -> None:
        blocked = await is_blocked(connection)
        if blocked:
            self._say(_log.warning, _BLOCKED)
        elif self._blocked:
            self._say(_log.info, "RabbitMQ accepts messages again")
            self._prepared.set()
        self._blocked = blocked

    def _say(self, log: Callable[..., Any], event: str, **details: str) -> None:
        """Log a change of state. Does not repeat the same state and reason."""
        said = f"{event} {details}"
        if said != self._said:
            self._said = said
            log(event, connection=self._name, broker=self._url.host_port_subcomponent, **details)


class _Loss:
    """Callback for the loss of a connection: stores the reason and wakes the waiting task."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self.reason: BaseException | None = None

    def __call__(self, _connection: object, reason: BaseException | None) -> None:
        self.reason = reason
        self._wake.set()


async def within(seconds: float, work: Awaitable[_Result]) -> _Result:
    """Return the result of `work`. Raises `TimeoutError` after `seconds`, even if `work` ignores its cancellation.

    While the broker does not read from the socket, a cancelled call of aiormq does not end: it waits to write
    Channel.Close.
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
    """Turn a `CancelledError` that aiormq caused, and a bare `Exception`, into `ConnectionError`.

    When a connection is lost, aiormq may cancel the futures that its callers wait for, or set a bare `Exception`.
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
    """Return RabbitMQ's own words if it has refused something, else the kind and the text of an error, for logs."""
    if error is None:
        return "no reason given"
    return _reply(error) if is_refusal(error) else f"{type(error).__name__}: {error}"


def is_refusal(error: BaseException) -> bool:
    """Return whether RabbitMQ has refused something, so that a retry may fail until an operator acts."""
    return isinstance(error, AMQPError) and _reply(error).startswith(_REFUSALS)


def _reply(error: BaseException) -> str:
    """Return the text of an AMQP error: RabbitMQ's reply. Some errors also have a reply code as first argument."""
    return str(error.args[-1]) if error.args else ""


async def _closed(connection: AbstractConnection) -> None:
    """Close a connection, within `DISCONNECT_SECONDS`."""
    try:
        await within(DISCONNECT_SECONDS, connection.close(ConnectionClosed(200, "closed by promgithub")))
    except (OSError, AMQPError) as error:
        _log.debug("the connection could not be closed cleanly", reason=describe(error))


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Retrieve a task's exception, so that asyncio does not log it as never retrieved after a timeout."""
    if not task.cancelled():
        task.exception()
