"""`promgithub dead-letters`: what was refused and why, and back into the queue or away with it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from promgithub.broker import topology
from promgithub.letter_listing import Listing, description, line
from promgithub.running import load_or_exit, run
from promgithub.standalone import SPOOL
from shared import logs
from shared.broker import DeadLetter, DeadLetters
from shared.errors import DeadLetterError, QueueFull
from shared.rabbitmq import rabbit_dead_letters
from shared.settings import CommonSettings
from shared.spool import spool_dead_letters

SHOWN = 100
"""Letters that are listed unless told otherwise."""

app = typer.Typer(
    help="List, show, replay and drop what cannot be counted.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DataDir = Annotated[
    Path | None,
    typer.Option(help="Data directory of a standalone promgithub, running or stopped, instead of RabbitMQ."),
]
SpoolDir = Annotated[Path | None, typer.Option(help="Directory of a spool itself, instead of RabbitMQ.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Delivery IDs.", show_default=False)]
Every = Annotated[bool, typer.Option("--all", help="All that are there now.")]

Visit = Callable[[], AbstractAsyncContextManager[DeadLetters]]
Action = Callable[[DeadLetters, DeadLetter], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant: those with one of these IDs, or all of them if none is given."""

    ids: frozenset[str] = frozenset()

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether a letter is meant."""
        return not self.ids or letter.delivery.id in self.ids


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="How many are listed.")] = SHOWN,
    data_dir: DataDir = None,
    spool_dir: SpoolDir = None,
) -> None:
    """List ID, event, reason, age, size and detail of each. Tabs are in between where there is no terminal."""
    _list(_place(data_dir, spool_dir), Wanted(), limit)


@app.command()
def show(
    delivery_id: Annotated[str, typer.Argument(metavar="ID", help="A delivery ID.")],
    data_dir: DataDir = None,
    spool_dir: SpoolDir = None,
) -> None:
    """Print the payload of a dead letter as it came.

    What else is known of it goes to standard error. Where several have the ID, a line break separates their payloads.
    """
    visit, wanted = _place(data_dir, spool_dir), Wanted(frozenset([delivery_id]))

    async def main(stop: asyncio.Event) -> None:
        separator = b""
        async with visit() as dead_letters:
            async for letter in _chosen(dead_letters, wanted, stop):
                typer.echo(description(letter), err=True)
                sys.stdout.buffer.write(separator + letter.delivery.body)
                sys.stdout.flush()
                separator = b"\n"

    run(main)


@app.command()
def replay(ids: Ids = None, every: Every = False, data_dir: DataDir = None, spool_dir: SpoolDir = None) -> None:
    """Put deliveries back into the queue.

    A dead letter is removed once its delivery is there durably. A crash in between leaves both, which does no harm:
    a delivery that comes twice is counted once.
    """
    wanted = _wanted(ids, every)
    _settle(_place(data_dir, spool_dir), wanted, "replayed", lambda letters, letter: letters.replay(letter))


@app.command()
def drop(
    ids: Ids = None,
    every: Every = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really remove them.")] = False,
    data_dir: DataDir = None,
    spool_dir: SpoolDir = None,
) -> None:
    """Remove dead letters for good. Without --yes it lists what would be removed, and exits with 2."""
    wanted, visit = _wanted(ids, every), _place(data_dir, spool_dir)
    if yes:
        _settle(visit, wanted, "dropped", lambda letters, letter: letters.drop(letter))
        return
    _list(visit, wanted, SHOWN)
    typer.echo("promgithub: nothing was dropped; takes --yes to drop these", err=True)
    raise typer.Exit(2)


def _wanted(ids: list[str] | None, every: bool) -> Wanted:
    if bool(ids) == every:
        raise typer.BadParameter("takes the IDs of dead letters, or --all", param_hint="ID")
    return Wanted(frozenset(ids or ()))


def _place(data_dir: Path | None, spool_dir: Path | None) -> Visit:
    """Return how to visit the dead letters that the options name."""
    if data_dir and spool_dir:
        raise typer.BadParameter("takes one of --data-dir and --spool-dir", param_hint="--spool-dir")
    settings = load_or_exit(CommonSettings)
    logs.configure("error", settings.log_format)
    directory = data_dir / SPOOL if data_dir else spool_dir
    if directory:
        return lambda: spool_dead_letters(directory, settings.event_queue_size)
    return lambda: rabbit_dead_letters(settings.amqp_url.get_secret_value(), topology(settings))


def _list(visit: Visit, wanted: Wanted, limit: int) -> None:
    """Print the first of the letters that are meant, and how many more there are."""

    async def main(stop: asyncio.Event) -> None:
        lines: list[tuple[str, ...]] = []
        more = 0
        async with visit() as dead_letters:
            async for letter in _chosen(dead_letters, wanted, stop):
                if len(lines) < limit:
                    lines.append(line(letter))
                elif wanted.ids:
                    more += 1
                else:  # all the others are meant too, and need not be looked at to be counted
                    more = dead_letters.total - limit
                    break
        Listing(lines, more).print()

    run(main)


def _settle(visit: Visit, wanted: Wanted, done: str, act: Action) -> None:
    """Replay or drop the letters that are meant; print how many it were, also if the rest could not be."""

    async def main(stop: asyncio.Event) -> None:
        count = 0
        try:
            async with visit() as dead_letters:
                with _progress(len(wanted.ids) or dead_letters.total) as advance:
                    async for letter in _chosen(dead_letters, wanted, stop):
                        count += await act(dead_letters, letter)
                        advance()
        except QueueFull as error:
            raise DeadLetterError(f"the queue is full, and the other letters stay where they are ({error})") from error
        finally:
            typer.echo(f"{count} {done}")

    run(main)


async def _chosen(dead_letters: DeadLetters, wanted: Wanted, stop: asyncio.Event) -> AsyncIterator[DeadLetter]:
    """Yield the letters that are meant.

    Raises `DeadLetterError` once told to stop, and at the end with a line for each ID that no letter has.
    """
    missing = set(wanted.ids)
    async for letter in dead_letters.letters():
        if stop.is_set():
            raise DeadLetterError("stopped before the end; the other letters stay where they are")
        if wanted.takes(letter):
            missing.discard(letter.delivery.id)
            yield letter
    if missing:
        raise DeadLetterError("\n".join(f"{one}: no dead letter has this ID" for one in sorted(missing)))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show on a terminal how far it is; gives what is to be called for each letter."""
    columns = (TextColumn("dead letters"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
