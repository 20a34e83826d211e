"""One child process of the test session: its output in a file, its end awaited, never outliving the session."""

import asyncio
import io
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.02
_CLOSE_SECONDS = 5.0


class Daemon:
    """A process that can be started, signalled and started again.

    `command` and `environment` are all it gets (nothing is inherited); its output is appended to `log`. `user` is the
    account to run as, `None` for the session's own. `last_signal` ends it at once; it also gets that signal when the
    session dies without a chance to clean up (on Linux), provided that `start` was called on the main thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        user: str | None = None,
        last_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._user = user
        self._last_signal = last_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._family = io.FileIO(os.devnull)

    @property
    def running(self) -> bool:
        """Whether the process exists; it may still be starting."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        if self._process is None:
            raise ProcessLookupError("never started")
        return self._process.pid

    def start(self) -> None:
        """Start the process; it must not be running."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self._family.close()
        self._family = io.FileIO(reader)
        try:
            self._process = self._spawn(writer)
        finally:
            os.close(writer)

    def _spawn(self, inherited: int) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*_dies_with_us(self._last_signal), *self._command],
                env=self._environment,
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[inherited],
                start_new_session=True,
                user=self._user,
                group=self._user and _primary_group(self._user),
                extra_groups=None if self._user is None else (),
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    async def ended(self, within: float) -> int:
        """Wait until the process and its children have ended; return its exit status (negative: the signal).

        Raises `TimeoutError` after `within` seconds.
        """
        async with asyncio.timeout(within):
            while True:
                if self._process is None or (status := self._process.poll()) is None or not self._family_gone():
                    await asyncio.sleep(_POLL_SECONDS)
                else:
                    return status

    def _family_gone(self) -> bool:
        # Each child inherits the pipe's other end, so its end of file means that the last one is gone.
        return self._family.read(1) == b""

    def close(self) -> None:
        """End the process at once, whatever it is doing; nothing happens if it has ended."""
        for number in (self._last_signal, signal.SIGKILL):
            self.signal(number)
            if self._has_ended_within(_CLOSE_SECONDS):
                break
        self._family.close()

    def _has_ended_within(self, seconds: float) -> bool:
        try:
            return self._process is None or self._process.wait(seconds) is not None
        except subprocess.TimeoutExpired:
            return False

    def log(self, lines: int) -> str:
        """Return the last `lines` lines of its output."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def _dies_with_us(number: signal.Signals) -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG"), "--"] if setpriv else []


def _primary_group(user: str) -> int:
    import pwd  # not on every system that can run the rest

    return pwd.getpwnam(user).pw_gid
