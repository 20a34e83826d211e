"""`promgithub status`: show the status page in a terminal."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import TextIOWrapper
from typing import Annotated

import aiohttp
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from yarl import URL

from processor.counting.states import Phase
from processor.status.queries import MOST_ROWS, PARAMETERS, Query, QueryError, parse
from promgithub.commands.running import run
from promgithub.commands.status_client import Status, find
from promgithub.commands.status_screen import plain, screen
from promgithub.commands.status_tables import Section, sections
from shared.errors import StatusError
from shared.waiting import is_set_within, unless

DEFAULT_URLS = ("http://localhost:8081", "http://localhost:8082")
"""The admin ports of standalone and of a processor, by default."""

WATCH_SECONDS = 5.0
"""How often `--watch` reads the status, in seconds."""

DEFAULT_LIMIT = 20
"""Maximum number of jobs, of runs and of failures, unless it is given."""

_LINES_FOR_A_ROW = 8  # of the window: there are three lists, whose rows have two lines, and some tables


def command(  # noqa: PLR0917 - an option each
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="Admin port of a processor or standalone. By default the first of "
            f"{' and '.join(DEFAULT_URLS)} that has a status page.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help=f"Show it every {WATCH_SECONDS:.0f} seconds until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: what the API answers, by the name of the endpoint.")
    ] = False,
    queued: Annotated[
        bool, typer.Option("--queued", help="Of the open jobs and runs, only those that are queued.")
    ] = False,
    older: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Of the open jobs and runs, only those that have been in their phase for longer, such as 30m.",
        ),
    ] = None,
    repository: Annotated[str | None, typer.Option(metavar="NAME", help="Only this repository.")] = None,
    runner_class: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Only jobs of this runner class.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="WINDOW", help=f"The window: {PARAMETERS['window'].takes}.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_ROWS,
            help="Maximum number of jobs, of runs and of failures. "
            f"By default {DEFAULT_LIMIT}; with --watch, what fits.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the status page in a terminal.

    It has what is open, what failed, the last day or week, and the health of promgithub itself.

    Without a terminal, tabs separate the columns, and the addresses of jobs are a column.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names may have characters that the terminal's encoding has not
    console = Console(highlight=False)
    on_terminal = console.is_terminal and not console.is_dumb_terminal
    if watch and (as_json or not on_terminal):
        raise typer.BadParameter("takes a terminal, and no --json", param_hint="--watch")
    query = _query(
        {
            "phase": Phase.QUEUED.value if queued else None,
            "older": older,
            "repository": repository,
            "class": runner_class,
            "window": window,
        }
    )
    urls = [_checked(one) for one in ([url] if url is not None else DEFAULT_URLS)]
    if watch:
        run(lambda stop: _watch(urls, query, limit, console, stop))
        return
    found: list[Answer] = []

    async def main(stop: asyncio.Event) -> None:
        answer = await unless(stop, _read(urls, replace(query, limit=limit or DEFAULT_LIMIT)))
        if answer is None:
            raise StatusError("stopped before the answer")
        found.append(answer)

    run(main)
    (answer,) = found
    if as_json:
        typer.echo(json.dumps({name: json.loads(text) for name, text in answer.texts.items()}))  # in ASCII
    elif on_terminal:
        console.print(screen(answer.sections(query), console.width))
    else:
        typer.echo(plain(answer.sections(query)))


@dataclass(frozen=True, slots=True)
class Answer:
    """The answers of all endpoints, as text and as views, and the URL that they are from."""

    url: URL
    texts: Mapping[str, bytes]
    status: Status

    def sections(self, query: Query) -> list[Section]:
        """Return them as sections."""
        filtered = bool(query.repository or query.runner_class or query.phase or query.older)
        return sections(self.status, str(self.url), filtered)


async def _read(urls: Sequence[URL], query: Query) -> Answer:
    async with aiohttp.ClientSession() as client:
        server = await find(client, urls)
        texts = await server.read(query)
        return Answer(server.shown_url, texts, server.decode(texts))


async def _watch(urls: Sequence[URL], query: Query, limit: int | None, console: Console, stop: asyncio.Event) -> None:
    """Show the status again and again until `stop` is set. An error is shown above the last status."""

    async def read() -> Answer | None:
        return await unless(
            stop, _read(urls, replace(query, limit=limit or max(3, console.height // _LINES_FOR_A_ROW)))
        )

    answer = await read()  # if this fails, the command ends
    trouble = ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while answer is not None:
            above = [Text(trouble, style="bold red")] if trouble else []
            live.update(Group(*above, screen(answer.sections(query), console.width)), refresh=True)
            if await is_set_within(stop, WATCH_SECONDS):
                return
            try:
                answer, trouble = await read(), ""
            except StatusError as error:
                trouble = str(error)


def _query(given: Mapping[str, str | None]) -> Query:
    try:
        return parse({name: text for name, text in given.items() if text is not None}, tuple(given))
    except QueryError as error:
        raise typer.BadParameter(f"--{error}") from None


def _checked(url: str) -> URL:
    """Return the URL of an admin port."""
    try:
        parsed = URL(url)
        usable = parsed.scheme in {"http", "https"} and parsed.host and not parsed.query_string and not parsed.fragment
    except ValueError:  # invalid brackets or port
        usable = False
    if not usable:
        raise typer.BadParameter(f"got {url!r}, takes a URL such as {DEFAULT_URLS[0]}", param_hint="URL")
    return parsed
