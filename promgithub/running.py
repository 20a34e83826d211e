"""Run a role until a signal says stop, and turn expected errors into one line."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import uvloop

from shared.errors import PromgithubError, SettingsError
from shared.settings import CommonSettings, load

_Settings = TypeVar("_Settings", bound=CommonSettings)


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main` on uvloop; the event that it gets is set by SIGTERM or SIGINT.

    Exits with 2 and a line on standard error for a wrong setting, with 1 for any other expected error.
    """
    status = 0
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(main))
    except* PromgithubError as group:
        say(group)
        status = 2 if group.subgroup(SettingsError) else 1
    if status:  # raised up there, it would come out as one more exception of a group, with its trace
        raise SystemExit(status)


def fail(error: BaseException, status: int) -> NoReturn:
    """Say what is wrong on standard error and exit."""
    say(error)
    raise SystemExit(status)


def load_or_exit(settings: type[_Settings]) -> _Settings:
    """Return the settings of a role, or exit with 2 and a line for each problem."""
    try:
        return load(settings)
    except SettingsError as error:
        fail(error, 2)


async def _until_signalled(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)


def say(error: BaseException) -> None:
    """Say what is wrong on standard error, a line for each of a group."""
    for message in dict.fromkeys(_messages(error)):
        print(f"promgithub: {message}", file=sys.stderr)  # noqa: T201 - for a person, before or after logging


def _messages(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [message for one in error.exceptions for message in _messages(one)]
    return str(error).splitlines()
