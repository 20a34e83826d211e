"""`promgithub hooks`: list, create, check and ping webhooks through GitHub's API."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Annotated, TypeVar

import typer
from prometheus_client import CollectorRegistry

from ingest.secrets import Secrets
from processor.counting.events import COUNTED
from processor.recovery.client import GitHub, check_configured
from processor.recovery.hook_checks import (
    ListedHook,
    advice,
    described,
    outcome,
    problems,
    shown_url,
)
from processor.recovery.hooks import Hook, HookOwner, parse_hook, parse_owner
from processor.recovery.missing import Attempt
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.requests import APP
from promgithub.commands.hook_requests import (
    created_hook,
    definition,
    listed_hooks,
    pinged,
    receiver_answer,
    recent_deliveries,
)
from promgithub.commands.payload_urls import parse_payload_url
from promgithub.commands.running import fail, load_or_exit, run
from promgithub.commands.tables import print_table, printable
from promgithub.commands.usage import PlainCommand
from shared import logs
from shared.errors import GitHubError, PromgithubError, SettingsError, SetupError
from shared.hosts import web_url
from shared.settings import HOOK, OWNER, PREFIX, IngestSettings, ProcessorSettings, split_list
from shared.settings import described as declared
from shared.waiting import unless

HEADINGS = ("HOOK", "ACTIVE", "CONTENT TYPE", "EVENTS", "URL")

DEFAULT_WAIT = 60.0
"""Default time to wait for the answer to a ping, in seconds."""

app = typer.Typer(
    help="List, create, check and ping GitHub's webhooks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Owners = Annotated[
    list[str],
    typer.Argument(metavar="OWNER", help="`org:ORGANISATION` or `repo:OWNER/REPOSITORY`.", show_default=False),
]
Hooks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="HOOK",
        help=f"A hook as in {PREFIX}GITHUB_HOOKS, such as `acme/gears/1234`. By default all hooks of that setting.",
        show_default=False,
    ),
]
PayloadUrl = Annotated[
    str,
    typer.Option("--url", metavar="URL", help="Payload URL, such as `https://ci.example.com/webhook`."),
]

_Item = TypeVar("_Item")
_Work = Callable[[GitHub, ProcessorSettings], Coroutine[object, object, bool]]


@app.command("list", cls=PlainCommand)
def list_hooks(owners: Owners) -> None:
    """List the hooks of repositories and organisations.

    The column HOOK has the names for GITHUB_HOOKS. Secrets are not shown.
    """
    chosen = _owners(owners)
    rows: list[tuple[str, ...]] = []

    async def work(github: GitHub, _settings: ProcessorSettings) -> bool:
        async def one(owner: HookOwner) -> bool:
            rows.extend([_row(owner, hook) async for hook in listed_hooks(github, owner)])
            return True

        try:
            return await _each(chosen, one)
        finally:
            if rows:
                print_table(HEADINGS, rows)

    _run(work)
    if not rows:
        typer.echo("no hooks")


@app.command(cls=PlainCommand)
def create(owners: Owners, url: PayloadUrl) -> None:
    """Create hooks for the events that promgithub counts.

    Their secret is the one in WEBHOOK_SECRET, or the last one in WEBHOOK_SECRET_FILE.

    A repository or organisation that has a hook with this URL gets no second one.
    """
    chosen, payload_url = _owners(owners), parse_payload_url(url)
    secret = _secret()
    created: list[str] = []

    async def work(github: GitHub, _settings: ProcessorSettings) -> bool:
        async def one(owner: HookOwner) -> bool:
            name, exists = await created_hook(github, owner, payload_url, secret)
            created.append(name)
            done = "a hook with this URL exists; it was not changed" if exists else "created; GitHub sends a ping"
            typer.echo(f"{name}: {done}. `promgithub hooks check {name}` says if all is well")
            return True

        return await _each(chosen, one)

    _run(work)
    typer.echo(f"To recover failed deliveries, set {PREFIX}GITHUB_HOOKS={','.join(created)}")


@app.command()
def check(
    hooks: Hooks = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Payload URL that the hooks must have.")
    ] = None,
) -> None:
    """Name everything that is wrong with hooks, and what to do.

    This includes the latest deliveries, as far as GitHub lists them. Exits with 1 if anything is wrong.
    """
    payload_url = None if url is None else parse_payload_url(url)

    async def work(github: GitHub, settings: ProcessorSettings) -> bool:
        async def one(hook: Hook) -> bool:
            listed, page_path = await definition(github, hook)
            recent = await recent_deliveries(github, hook)
            found = problems(listed, recent, COUNTED, payload_url)
            for problem in found:
                typer.echo(printable(f"{hook.name}: {problem}"))
            if found:
                typer.echo(f"{hook.name}: its settings are at {_web(settings)}{page_path}")
            else:
                typer.echo(printable(f"{hook.name}: all is well: {_summary(listed, recent)}"))
            return not found

        return await _each(_chosen(hooks, settings), one)

    _run(work)


@app.command()
def ping(
    hooks: Hooks = None,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the answer of each hook.")
    ] = DEFAULT_WAIT,
) -> None:
    """Let GitHub send a ping, and say how the receiver answered.

    Exits with 1 unless it accepted the ping.
    """

    async def work(github: GitHub, settings: ProcessorSettings) -> bool:
        chosen = _chosen(hooks, settings)
        if any(hook.scope == APP for hook in chosen):
            fail(
                SettingsError(
                    "app: GitHub sends no ping for an App; `promgithub hooks check app` reads its deliveries"
                ),
                2,
            )

        async def one(hook: Hook) -> bool:
            answered = await pinged(github, hook, wait)
            if answered.succeeded:
                typer.echo(f"{hook.name}: the receiver accepted the {described(answered)}, {outcome(answered)}")
                return True
            said = await receiver_answer(github, hook, answered.id)
            text = (
                f"{hook.name}: the {described(answered)} was {outcome(answered)}{said}; {advice(answered.status_code)}"
            )
            typer.echo(printable(text))
            return False

        return await _each(chosen, one)

    _run(work)


# --- The options ---


def _owners(texts: Sequence[str]) -> list[HookOwner]:
    for text in texts:
        if not OWNER.fullmatch(text):
            takes = "takes org:ORGANISATION or repo:OWNER/REPOSITORY"
            raise typer.BadParameter(f"got {text!r}, {takes}", param_hint="OWNER")
    return [parse_owner(text) for text in dict.fromkeys(texts)]


def _chosen(texts: Sequence[str] | None, settings: ProcessorSettings) -> list[Hook]:
    """Return the given hooks, or those in the setting. Raises `SettingsError` if there are none, or one is invalid."""
    takes = declared(ProcessorSettings)["github_hooks"].takes
    names = texts or split_list(settings.github_hooks)
    if not names:
        raise SettingsError(f"{PREFIX}GITHUB_HOOKS: not set, and no hook given; takes {takes}")
    for name in names:
        if not HOOK.fullmatch(name):
            raise SettingsError(f"{name}: not a hook; takes {takes}; `promgithub hooks list` shows the names")
    return [parse_hook(name) for name in dict.fromkeys(names)]


def _secret() -> str:
    settings = load_or_exit(IngestSettings)
    given = settings.webhook_secret
    try:
        secrets = Secrets(given.get_secret_value() if given else None, settings.webhook_secret_file)
    except SettingsError as error:
        fail(error, 2)
    return secrets.current()[-1].decode()


# --- GitHub ---


def _run(work: _Work) -> None:
    """Run `work`, and exit with 1 after an error, or if it returns False."""
    settings = load_or_exit(ProcessorSettings)
    logs.configure(settings.log_level, settings.log_format)
    good: list[bool] = []

    async def main(stop: asyncio.Event) -> None:
        check_configured(settings)
        async with GitHub(settings, RecoveryMetrics(CollectorRegistry())) as github:
            result = await unless(stop, work(github, settings))
        if result is None:
            raise SetupError("stopped before the end")
        good.append(result)

    run(main)
    if not all(good):
        raise typer.Exit(1)


async def _each(items: Sequence[_Item], one: Callable[[_Item], Awaitable[bool]]) -> bool:
    """Call `one` for each item, also after an error; return whether all were True. Raises the errors together."""
    good = True
    errors: list[PromgithubError] = []
    for item in items:
        try:
            good = await one(item) and good
        except (GitHubError, SetupError) as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("hooks", errors)
    return good


# --- Texts ---


def _row(owner: HookOwner, hook: ListedHook) -> tuple[str, ...]:
    config = hook.config
    active = "yes" if hook.active else "no"
    columns = (owner.hook_name(hook.id), active, config.content_type, ",".join(hook.events), shown_url(config.url))
    return tuple(map(printable, columns))


def _summary(hook: ListedHook, recent: Sequence[Attempt]) -> str:
    newest = f"the newest one ({described(recent[0])}) {outcome(recent[0])}" if recent else "none yet"
    return f"{shown_url(hook.config.url)}, {len(hook.events)} events; latest deliveries: {newest}"


def _web(settings: ProcessorSettings) -> str:
    return web_url(settings.github_api_url.get_secret_value())
