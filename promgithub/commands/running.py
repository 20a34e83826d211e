"""Runs a command until a signal stops it, and prints expected errors as one line."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import uvloop

from promgithub.commands.private_files import create_privately
from shared import logs
from shared.errors import PromgithubError, SettingsError
from shared.logs import get_logger
from shared.setting_warnings import warnings
from shared.settings import CommonSettings, load

_log = get_logger(__name__)

_Settings = TypeVar("_Settings", bound=CommonSettings)


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main` on uvloop. SIGTERM and SIGINT set the event that `main` gets. Files are created for their owner only.

    After an invalid setting, prints a line on standard error and exits with 2. After any other expected error, exits
    with 1.
    """
    status = 0
    create_privately()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(main))
    except* PromgithubError as group:
        say(group)
        status = 2 if group.subgroup(SettingsError) else 1
    if status:  # raised in the `except*` block, it would be part of an exception group, with a traceback
        raise SystemExit(status)


def fail(error: BaseException, status: int) -> NoReturn:
    """Print an error on standard error and exit."""
    say(error)
    raise SystemExit(status)


def load_or_exit(settings: type[_Settings]) -> _Settings:
    """Return the settings of a role, or print a line for each problem and exit with 2."""
    try:
        return load(settings)
    except SettingsError as error:
        fail(error, 2)


def start_logging(settings: CommonSettings) -> None:
    """Configure the logs of a process, and log the warnings about its settings."""
    logs.configure(settings.log_level, settings.log_format)
    for warning in warnings(settings):
        _log.warning("check the settings", problem=warning)


async def _until_signalled(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)  # the image starts promgithub with SIGTERM blocked
    await main(stop)


def say(error: BaseException) -> None:
    """Print an error on standard error: a line for each error of a group."""
    for message in dict.fromkeys(_messages(error)):
        print(f"promgithub: {message}", file=sys.stderr)  # noqa: T201 - for a person, before or after logging


def _messages(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [message for one in error.exceptions for message in _messages(one)]
    return str(error).splitlines()
