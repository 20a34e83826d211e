"""The receiving process, as the process that started it sees it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Self

from ingest.receiver import Receiver
from processor.counting.events import COUNTED
from promgithub.receiving.messages import (
    Ask,
    Failed,
    FromReceiver,
    Listen,
    Listening,
    Publish,
    Published,
    Report,
    SayStarted,
    Stop,
)
from promgithub.receiving.pipe import Pipe
from promgithub.receiving.receiver_side import DistantBroker, be_the_receiver
from shared.admin.health import Check
from shared.brokers.spool import SpoolBroker
from shared.errors import BrokerError, BrokerUnavailable, ReceiverError, SettingsError, describe
from shared.logs import get_logger
from shared.settings import StandaloneSettings
from shared.waiting import is_set_within

STOP_SECONDS = 22.0
"""How long the process may take to end, in seconds: its listener takes at most 20 s."""

REPORT_SECONDS = 5.0
"""Timeout of a report, in seconds."""

EXIT_POLL_SECONDS = 0.01
"""How often to check whether the process has ended, in seconds, once it has closed its end of the pipe."""

_log = get_logger(__name__)


class ReceivingProcess:
    """A child process that receives, and publishes to the broker of this process."""

    def __init__(self, pid: int, own: socket.socket, broker: SpoolBroker) -> None:
        self._pid = pid
        self._socket = own
        self._broker = broker
        self._pipe: Pipe[FromReceiver] = Pipe(FromReceiver, self._told)
        self._reports: dict[int, asyncio.Future[Report]] = {}
        self._numbers = count(1)
        self._open = False
        self._listening = False
        self._failure = ""
        self.checks: Mapping[str, Check] = {"listener": self._check_listener}

    @classmethod
    def start(cls, settings: StandaloneSettings, broker: SpoolBroker) -> Self:
        """Start the process, before this one has an event loop or threads. Raises `SettingsError`.

        It listens, and uses `broker`, as soon as `receive` says so.
        """
        distant = DistantBroker()
        receiver = Receiver(settings, distant, counted=COUNTED)
        own, others = socket.socketpair()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            own.close()
            be_the_receiver(receiver, distant, others)
        others.close()
        return cls(pid, own, broker)

    async def receive(self, stop: asyncio.Event) -> None:
        """Receive until `stop` is set, then finish the requests in progress.

        Raises `SettingsError` if the port is in use, or `ReceiverError` if the process ends by itself.
        """
        await self._pipe.open(self._socket)
        self._open = True
        self._pipe.send(Listen())
        stopping = asyncio.create_task(stop.wait())
        ended = asyncio.create_task(self._pipe.closed.wait())
        try:
            await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
            self._pipe.send(Stop())
            if not await is_set_within(self._pipe.closed, STOP_SECONDS):
                _log.warning("the receiving process does not end; it is killed")
                os.kill(self._pid, signal.SIGKILL)
            status = await self._exit_status()
        finally:
            stopping.cancel()
            ended.cancel()
            self._open = False
        if self._failure:
            raise SettingsError(self._failure)
        if not stop.is_set():
            raise ReceiverError(f"the receiving process has ended ({status}); it must not end before this one")

    def say_started(self) -> None:
        """Let it log that it is ready, and its addresses."""
        self._pipe.send(SayStarted())

    async def gather(self) -> Report:
        """Return its metrics. The report is empty if there is none in time."""
        number = next(self._numbers)
        report: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._reports[number] = report
        try:
            if self._open:
                self._pipe.send(Ask(number))
                async with asyncio.timeout(REPORT_SECONDS):
                    return await report
        except TimeoutError:
            _log.warning("the receiving process does not report; a page is without its metrics")
        finally:
            del self._reports[number]
        return Report(number)

    async def taken(self) -> Mapping[str, float]:
        """Return when it last took a delivery of each event, in Unix seconds."""
        return (await self.gather()).taken

    def _told(self, message: FromReceiver) -> None:
        match message:
            case Publish():
                self._publish(message)
            case Report(number):
                report = self._reports.get(number)
                if report is not None and not report.done():
                    report.set_result(message)
            case Listening():
                self._listening = True
            case Failed(reason):
                self._failure = reason

    def _publish(self, message: Publish) -> None:
        # Not a task for each: it would cost as much as all else here.
        try:
            stored = self._broker.store(message.delivery)
        except BrokerError as error:
            self._pipe.send(Published.refused(message.number, error))
        else:
            stored.add_done_callback(partial(self._answer, message.number))

    def _answer(self, number: int, stored: "asyncio.Future[None]") -> None:
        error = stored.exception()
        if error is None:
            self._pipe.send(Published(number))
            return
        if not isinstance(error, BrokerError):
            _log.error("a delivery could not be stored", reason=describe(error))
            error = BrokerUnavailable("promgithub failed")
        self._pipe.send(Published.refused(number, error))

    async def _exit_status(self) -> str:
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)  # noqa: ASYNC222 - returns at once
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return f"exit status {code}" if code >= 0 else f"signal {-code}"
            await asyncio.sleep(EXIT_POLL_SECONDS)

    async def _check_listener(self) -> None:
        if not self._listening:
            raise ReceiverError("the public port is not open yet")
