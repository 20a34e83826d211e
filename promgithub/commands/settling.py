"""Replays or drops the selected dead letters, several at a time."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from shared.brokers.interface import DeadLetter, DeadLetters
from shared.errors import DeadLetterError

AT_ONCE = 400
"""How many letters are replayed or dropped at the same time: those of one page of RabbitMQ while the next is read."""

LARGE_LETTER = 128 * 1024
"""Payloads above this size, in bytes, are replayed one at a time, because all letters in progress are in memory."""

Action = Callable[[DeadLetter], Awaitable[None]]
"""Replays or drops a letter."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selection of letters: those with one of these IDs, or all if there are no IDs."""

    ids: frozenset[str] = frozenset()

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether a letter is selected."""
        return not self.ids or letter.delivery.id in self.ids


async def chosen(dead_letters: DeadLetters, wanted: Wanted, stop: asyncio.Event) -> AsyncIterator[DeadLetter]:
    """Yield the selected letters.

    Raises `DeadLetterError` when `stop` is set, and at the end with a line for each ID without a letter.
    """
    missing = set(wanted.ids)
    async for letter in dead_letters.letters():
        if stop.is_set():
            raise DeadLetterError("stopped before the end; the other letters are unchanged")
        if wanted.takes(letter):
            missing.discard(letter.delivery.id)
            yield letter
    if missing:
        raise DeadLetterError("\n".join(f"{one}: no dead letter has this ID" for one in sorted(missing)))


async def settle(dead_letters: DeadLetters, wanted: Wanted, act: Action, stop: asyncio.Event) -> None:
    """Apply `act` to the selected letters.

    After the first error, no other letter is begun. Those in progress are finished, and then the error is raised.
    """
    with _progress(len(wanted.ids) or dead_letters.total) as advance:
        work = _Settling(chosen(dead_letters, wanted, stop), act, advance)
        results = await asyncio.gather(*(work.some() for _ in range(AT_ONCE)), return_exceptions=True)
    for result in results:
        if result is not None:
            raise result


class _Settling:
    """Several tasks that share one iterator of letters."""

    def __init__(self, letters: AsyncIterator[DeadLetter], act: Action, advance: Callable[[], None]) -> None:
        self._letters = letters
        self._act = act
        self._advance = advance
        self._turn = asyncio.Lock()
        self._failed = False

    async def some(self) -> None:
        """Settle letters until there are no others, or one has failed."""
        try:
            while not self._failed:
                async with self._turn:
                    letter = await self._next()
                    if letter is not None and letter.size > LARGE_LETTER:
                        await self._settle(letter)
                        continue
                if letter is None:
                    return
                await self._settle(letter)
        except BaseException:
            self._failed = True
            raise

    async def _next(self) -> DeadLetter | None:
        return None if self._failed else await anext(self._letters, None)

    async def _settle(self, letter: DeadLetter) -> None:
        await self._act(letter)
        self._advance()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal. Yields a function to call after each letter."""
    columns = (TextColumn("dead letters"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
