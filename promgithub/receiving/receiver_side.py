"""The receiving process: it publishes by asking the process that started it."""

import asyncio
import os
import signal
import socket
import sys
import traceback

import uvloop

from ingest.receiver import Receiver
from promgithub.receiving.messages import (
    Ask,
    Failed,
    Family,
    Listen,
    Listening,
    Publish,
    Published,
    Report,
    SayStarted,
    Stop,
    ToReceiver,
)
from promgithub.receiving.pipe import Pipe
from shared.delivery import Delivery
from shared.descriptors import watch
from shared.errors import BrokerUnavailable, SettingsError
from shared.process import settle
from shared.waiting import Deadlines

ANSWER_SECONDS = 6.0
"""Timeout of a publish, in seconds: the spool's own is shorter."""


class DistantBroker:
    """The broker of the other process, for a receiver. It is connected as long as there is that process."""

    available = True
    trouble = "the process that stores the deliveries does not answer"

    def __init__(self) -> None:
        self._pipe: Pipe[ToReceiver] | None = None
        self._deadlines = Deadlines(ANSWER_SECONDS)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._number = 0

    def use(self, pipe: Pipe[ToReceiver]) -> None:
        """Publish over a pipe."""
        self._pipe = pipe

    async def ready_within(self, seconds: float) -> bool:
        """Return True at once."""
        return True

    async def publish(self, delivery: Delivery) -> None:
        """Return once the other process has stored a delivery. Raises the errors of `interface.Publisher.publish`."""
        if self._pipe is None:
            raise BrokerUnavailable(self.trouble)
        self._number = number = self._number + 1
        stored = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._deadlines.watch(stored)
        self._pipe.send(Publish(number, delivery))
        try:
            await stored
        except TimeoutError:
            raise BrokerUnavailable(self.trouble) from None
        finally:
            del self._waiting[number]

    def answered(self, answer: Published) -> None:
        """Let the publish that waits for an answer return, or raise its error."""
        stored = self._waiting.get(answer.number)
        if stored is None or stored.done():  # too late
            return
        if error := answer.error:
            stored.set_exception(error)
        else:
            stored.set_result(None)

    async def start(self) -> None:
        """Do nothing: `use` connects."""

    async def close(self) -> None:
        """Do nothing: the pipe outlives the receiver."""


def be_the_receiver(receiver: Receiver, broker: DistantBroker, own: socket.socket) -> None:
    """Receive until the other process says so or ends, and end this process. `broker` is that of `receiver`."""
    for number in (signal.SIGTERM, signal.SIGINT):  # service managers and terminals signal both processes
        signal.signal(number, signal.SIG_IGN)
    status = 1
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Receiving(receiver, broker).run(own))
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the other process may run here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class _Receiving:
    def __init__(self, receiver: Receiver, broker: DistantBroker) -> None:
        self._receiver = receiver
        self._broker = broker
        self._pipe: Pipe[ToReceiver] = Pipe(ToReceiver, self._told)
        self._listen = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self, own: socket.socket) -> None:
        settle()
        await self._pipe.open(own)
        ending = asyncio.create_task(self._end_with_the_other())
        self._broker.use(self._pipe)
        await self._listen.wait()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch(self._stop))
                await self._receiver.receive(self._stop, lambda: self._pipe.send(Listening()))
        except* SettingsError as errors:
            self._pipe.send(Failed(str(errors.exceptions[0])))
        ending.cancel()
        await self._pipe.close()

    async def _end_with_the_other(self) -> None:
        """End at once when the other process has ended: it can store nothing any more."""
        await self._pipe.closed.wait()
        os._exit(1)

    def _told(self, message: ToReceiver) -> None:
        match message:
            case Published():
                self._broker.answered(message)
            case Ask(number):
                self._pipe.send(self._report(number))
            case Listen():
                self._listen.set()
            case SayStarted():
                self._receiver.say_started()
            case Stop():
                self._stop.set()

    def _report(self, number: int) -> Report:
        families = [Family.of(metric) for metric in self._receiver.metrics.registry.collect()]
        return Report(number, families, self._receiver.metrics.last_taken)
