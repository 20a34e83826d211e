"""`promgithub dead-letters`: list, show, replay and drop dead letters."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ingest.outcomes import Refusal
from ingest.validation import check_payload
from processor.store.engine import create_engine
from promgithub.commands.data_directories import SPOOL, DataDir, store_settings
from promgithub.commands.letter_listing import (
    JsonLetterList,
    LetterList,
    description,
    json_line,
    json_with_payload,
    line,
)
from promgithub.commands.letter_outcomes import LetterOutcomes
from promgithub.commands.running import load_or_exit, run
from promgithub.commands.settling import Wanted, chosen, settle
from promgithub.commands.usage import PlainCommand
from shared import logs
from shared.brokers import choice
from shared.brokers.interface import DeadLetter, DeadLetters
from shared.errors import DeadLetterError, QueueFull
from shared.settings import CommonSettings

DEFAULT_LIMIT = 100
"""Default number of letters in a list."""

DEFAULT_WAIT = 10.0
"""Default time to wait for the next result of a replay, in seconds."""

app = typer.Typer(
    help="List, show, replay and drop deliveries that failed.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

SpoolDir = Annotated[Path | None, typer.Option(help="Directory of a spool, instead of RabbitMQ.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Delivery IDs. Required, unless there is --all.", show_default=False),
]
AllLetters = Annotated[bool, typer.Option("--all", help="All dead letters that exist now.")]

Visit = Callable[[], AbstractAsyncContextManager[DeadLetters]]

_Form = TypeVar("_Form")


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of letters in the list.")] = DEFAULT_LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
    data_dir: DataDir = None,
    spool_dir: SpoolDir = None,
) -> None:
    """List ID, event, reason, age, size and detail of each letter. Without a terminal, tabs separate the columns.

    With --json, each line is a JSON object with all fields except the payload.
    """
    visit = _place(data_dir, spool_dir)
    if as_json:
        _list_as_json(visit, Wanted(), limit)
    else:
        _list(visit, Wanted(), limit)


@app.command(cls=PlainCommand)
def show(
    delivery_id: Annotated[str, typer.Argument(metavar="ID", help="A delivery ID.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one object per letter; `payload` is the payload as text.")
    ] = False,
    data_dir: DataDir = None,
    spool_dir: SpoolDir = None,
) -> None:
    """Print the unchanged payload of a dead letter.

    The other fields go to standard error. If several letters have the ID, a line break separates their payloads.
    """
    visit, wanted = _place(data_dir, spool_dir), Wanted(frozenset([delivery_id]))

    async def main(stop: asyncio.Event) -> None:
        separator = b""
        async with visit() as dead_letters:
            async for letter in chosen(dead_letters, wanted, stop):
                if as_json:
                    typer.echo(json_with_payload(letter))
                    continue
                typer.echo(description(letter), err=True)
                sys.stdout.buffer.write(separator + letter.delivery.body)
                sys.stdout.flush()
                separator = b"\n"

    run(main)


@app.command()
def replay(  # noqa: PLR0917 - an option each
    ids: Ids = None,
    every: AllLetters = False,
    payload: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A mended payload for the one ID. The delivery keeps its ID.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the next result; 0 does not wait.")
    ] = DEFAULT_WAIT,
    data_dir: DataDir = None,
    spool_dir: SpoolDir = None,
) -> None:
    """Put deliveries back into the queue, and report the outcomes.

    An outcome is: counted, dead again, or not processed yet.

    A dead letter is removed after the broker has confirmed its delivery. A crash in between leaves both. This is
    harmless: duplicates are counted once.

    The database (PROMGITHUB_DATABASE_URL) tells what was counted. Exits with 1 if a letter is dead again.
    """
    wanted, visit = _wanted(ids, every), _place(data_dir, spool_dir)
    mended = None if payload is None else _mended(payload, wanted)
    database_url = store_settings(data_dir).database_url.get_secret_value()
    outcomes = LetterOutcomes(Counter())

    async def main(stop: asyncio.Event) -> None:
        engine = create_engine(database_url, connections=1, application="promgithub-dead-letters")
        try:
            async with visit() as dead_letters:
                await _replay(dead_letters, wanted, mended, outcomes, stop)
                if wait and outcomes.waiting:
                    await outcomes.wait(dead_letters, engine, wait, stop)
        finally:
            await engine.dispose()
        for one in outcomes.lines(wait) if wait else ():
            typer.echo(one)

    run(main)
    if outcomes.dead:
        raise typer.Exit(1)


@app.command()
def drop(
    ids: Ids = None,
    every: AllLetters = False,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm the removal.")] = False,
    data_dir: DataDir = None,
    spool_dir: SpoolDir = None,
) -> None:
    """Remove dead letters permanently. Without --yes, only list them, and exit with 2."""
    wanted, visit = _wanted(ids, every), _place(data_dir, spool_dir)
    if yes:
        _drop(visit, wanted)
        return
    _list(visit, wanted, DEFAULT_LIMIT)
    typer.echo("promgithub: nothing was dropped; takes --yes to drop these", err=True)
    raise typer.Exit(2)


def _wanted(ids: list[str] | None, every: bool) -> Wanted:
    if bool(ids) == every:
        raise typer.BadParameter("takes the IDs of dead letters, or --all", param_hint="ID")
    return Wanted(frozenset(ids or ()))


def _place(data_dir: Path | None, spool_dir: Path | None) -> Visit:
    """Return a function that visits the dead letters selected by the options."""
    if data_dir and spool_dir:
        raise typer.BadParameter("takes one of --data-dir and --spool-dir", param_hint="--spool-dir")
    settings = load_or_exit(CommonSettings)
    logs.configure("error", settings.log_format)
    directory = data_dir / SPOOL if data_dir else spool_dir
    return lambda: choice.dead_letters(settings, directory)


def _list(visit: Visit, wanted: Wanted, limit: int) -> None:
    """Print the first selected letters, and the number of the others."""

    async def main(stop: asyncio.Event) -> None:
        LetterList(*await _first(visit, wanted, limit, stop, line)).print()

    run(main)


def _list_as_json(visit: Visit, wanted: Wanted, limit: int) -> None:
    """Print the first selected letters as JSON, and the number of the others."""

    async def main(stop: asyncio.Event) -> None:
        JsonLetterList(*await _first(visit, wanted, limit, stop, json_line)).print()

    run(main)


async def _first(
    visit: Visit, wanted: Wanted, limit: int, stop: asyncio.Event, form: Callable[[DeadLetter], _Form]
) -> tuple[list[_Form], int]:
    """Return the first selected letters, converted by `form`, and the number of the others."""
    shown: list[_Form] = []
    more = 0
    async with visit() as dead_letters:
        async for letter in chosen(dead_letters, wanted, stop):
            if len(shown) < limit:
                shown.append(form(letter))
            elif wanted.ids:
                more += 1
            else:  # all letters are selected, so their number is known without reading them
                more = dead_letters.total - limit
                break
    return shown, more


def _mended(path: Path, wanted: Wanted) -> bytes:
    """Return the payload in a file. Raises `typer.BadParameter` if it cannot be a payload, or not for one ID only."""
    if len(wanted.ids) != 1:
        raise typer.BadParameter("takes one ID", param_hint="--payload")
    try:
        payload = path.read_bytes()
        check_payload(payload)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read ({error.strerror})", param_hint="--payload") from None
    except Refusal as refusal:
        raise typer.BadParameter(f"{path}: {refusal}", param_hint="--payload") from None
    return payload


async def _replay(
    dead_letters: DeadLetters, wanted: Wanted, mended: bytes | None, outcomes: LetterOutcomes, stop: asyncio.Event
) -> None:
    """Replay the selected letters, and add them to `outcomes`. Prints their number, also after an error."""

    async def act(letter: DeadLetter) -> None:
        if mended is not None:
            letter = replace(letter, delivery=replace(letter.delivery, body=mended))
        if await dead_letters.replay(letter):
            outcomes.waiting[letter.delivery.id] += 1

    try:
        await settle(dead_letters, wanted, act, stop)
    except QueueFull as error:
        raise DeadLetterError(f"the queue is full; the other letters are unchanged ({error})") from error
    finally:
        typer.echo(f"{outcomes.waiting.total()} replayed")


def _drop(visit: Visit, wanted: Wanted) -> None:
    """Drop the selected letters. Prints their number, also after an error."""

    async def main(stop: asyncio.Event) -> None:
        dropped = 0

        async def act(letter: DeadLetter) -> None:
            nonlocal dropped
            dropped += await dead_letters.drop(letter)

        try:
            async with visit() as dead_letters:
                await settle(dead_letters, wanted, act, stop)
        finally:
            typer.echo(f"{dropped} dropped")

    run(main)
