"""Finds out what became of replayed dead letters: counted, dead again, or not processed yet."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from processor.store import recovery
from processor.store.engine import transaction
from promgithub.commands.tables import printable
from shared.brokers.interface import DeadLetter, DeadLetters
from shared.delivery import parse_guid
from shared.errors import StoreError
from shared.waiting import is_set_within

POLL_SECONDS = 0.3
"""Pause between two looks at the dead letters and the database."""

IDS_AT_ONCE = 1000
"""Maximum number of delivery IDs in one query."""

SHOWN = 20
"""Maximum number of letters that the report names."""


@dataclass(slots=True)
class LetterOutcomes:
    """What became of the deliveries of replayed letters.

    `waiting` has the number of letters without a result, by delivery ID. `trouble` says why the database cannot tell
    which deliveries were counted.
    """

    waiting: Counter[str]
    counted: int = 0
    dead: list[DeadLetter] = field(default_factory=list)
    trouble: str = ""

    @property
    def settled(self) -> int:
        """The number of letters with a result."""
        return self.counted + len(self.dead)

    async def wait(self, dead_letters: DeadLetters, engine: AsyncEngine, seconds: float, stop: asyncio.Event) -> None:
        """Wait until all letters have a result, until none gets one for `seconds`, or until `stop` is set.

        `engine` is of the database in which the deliveries are counted. Raises `BrokerUnavailable`.
        """
        deadline = time.monotonic() + seconds
        while True:
            before = self.settled
            await self._look(dead_letters, engine)
            if self.settled > before:
                deadline = time.monotonic() + seconds
            if not self.waiting or time.monotonic() >= deadline or await is_set_within(stop, POLL_SECONDS):
                return

    def lines(self, seconds: float) -> Iterator[str]:
        """Yield the report, for a wait of `seconds`."""
        if self.counted:
            yield f"{self.counted} counted"
        if len(self.dead) == 1:
            yield f"1 is dead again: {_line(self.dead[0])}"
        elif self.dead:
            yield f"{len(self.dead)} are dead again:"
            yield from (f"  {_line(letter)}" for letter in self.dead[:SHOWN])
            if len(self.dead) > SHOWN:
                yield f"  ... and {len(self.dead) - SHOWN} more"
        if not self.waiting:
            return
        left = self.waiting.total()
        if self.trouble:
            yield f"{left} without a known result: the database cannot tell what was counted ({self.trouble})"
        else:
            yield f"{left} not processed within {seconds:g} s: still in the queue, or no processor is running"

    async def _look(self, dead_letters: DeadLetters, engine: AsyncEngine) -> None:
        """Register the results that there are now."""
        async for letter in dead_letters.arrivals():
            if self._settle_one(letter.delivery.id):
                self.dead.append(letter)
        try:
            for name in await _counted(engine, self.waiting):
                self.counted += self.waiting.pop(name)
            self.trouble = ""
        except StoreError as error:
            self.trouble = str(error)

    def _settle_one(self, name: str) -> bool:
        """Remove a letter with a delivery ID from `waiting`; return whether there was one."""
        if name not in self.waiting:
            return False
        self.waiting[name] -= 1
        if not self.waiting[name]:
            del self.waiting[name]
        return True


async def _counted(engine: AsyncEngine, names: Collection[str]) -> set[str]:
    """Return which of these delivery IDs the database has counted. Raises `StoreError`."""
    guids = {guid: name for name in names if (guid := parse_guid(name)) is not None}
    found: set[UUID] = set()
    left = iter(guids)
    while chunk := list(islice(left, IDS_AT_ONCE)):
        async with transaction(engine) as connection:
            found |= await recovery.known(connection, chunk)
    return {guids[guid] for guid in found}


def _line(letter: DeadLetter) -> str:
    return printable(f"{letter.delivery.id}: {letter.reason}: {letter.detail}")
