"""`promgithub hooks`: list, create, check and ping webhooks through GitHub's API."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from prometheus_client import CollectorRegistry

from ingest.secrets import Secrets
from processor.counting.events import COUNTED
from processor.recovery.client import GitHub, check_configured, understood
from processor.recovery.hook_checks import (
    HookConfig,
    ListedApp,
    ListedHook,
    advice,
    described,
    new_ping,
    outcome,
    problems,
    same_url,
    shown_url,
)
from processor.recovery.hooks import Hook, HookOwner, parse_hook, parse_owner
from processor.recovery.missing import Attempt, attempts
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.requests import APP
from promgithub.commands.payload_urls import parse_payload_url
from promgithub.commands.running import fail, load_or_exit, run
from promgithub.commands.tables import print_table, printable
from promgithub.commands.usage import PlainCommand
from shared import logs
from shared.errors import GitHubError, GitHubUnavailable, PromgithubError, SettingsError, SetupError
from shared.hosts import web_url
from shared.settings import HOOK, OWNER, PREFIX, IngestSettings, ProcessorSettings, split_list
from shared.settings import described as declared
from shared.waiting import unless

HEADINGS = ("HOOK", "ACTIVE", "CONTENT TYPE", "EVENTS", "URL")

MOST_PAGES = 10
"""Maximum number of pages of a list of hooks. GitHub allows 20 hooks per event, Enterprise Server 250."""

DEFAULT_WAIT = 60.0
"""Default time to wait for the answer to a ping, in seconds."""

POLL_SECONDS = 1.0
"""Pause between two looks at the deliveries of a hook."""

ANSWER_SHOWN = 200
"""Maximum number of characters of a receiver's answer that are printed."""

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
            rows.extend([_row(owner, hook) async for hook in _hooks(github, owner)])
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
            name, exists = await _created(github, owner, payload_url, secret)
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
            listed, page_path = await _definition(github, hook)
            recent = await _recent(github, hook)
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
            answered = await _pinged(github, hook, wait)
            if answered.succeeded:
                typer.echo(f"{hook.name}: the receiver accepted the {described(answered)}, {outcome(answered)}")
                return True
            said = await _answer(github, hook, answered.id)
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


async def _hooks(github: GitHub, owner: HookOwner) -> AsyncIterator[ListedHook]:
    request = owner.hooks()
    for _ in range(MOST_PAGES):
        page, more = await github.page(request)
        for hook in _items(page, request.shown):
            yield understood(hook, ListedHook)
        if more is None:
            return
        request = owner.page(more)
    raise GitHubUnavailable(f"{owner.name}: the list of hooks has over {MOST_PAGES} pages")


def _items(page: Any, path: str) -> list[Any]:
    if not isinstance(page, list):
        raise GitHubUnavailable(f"{path}: GitHub's answer is not a list")
    return page


async def _created(github: GitHub, owner: HookOwner, url: str, secret: str) -> tuple[str, bool]:
    """Return the name of the owner's hook with this URL, and whether it existed before."""
    async for hook in _hooks(github, owner):
        if same_url(hook.config.url, url):
            return owner.hook_name(hook.id), True
    made = understood(await github.post(owner.creation(url, secret, COUNTED)), ListedHook)
    return owner.hook_name(made.id), False


async def _definition(github: GitHub, hook: Hook) -> tuple[ListedHook, str]:
    """Return a hook, and the path of its page in GitHub's settings."""
    answer = await github.get(hook.definition())
    if hook.scope != APP:
        return understood(answer, ListedHook), hook.page_path
    found = understood(await github.get(hook.app()), ListedApp)
    return ListedHook(understood(answer, HookConfig), events=found.events), found.page_path


async def _recent(github: GitHub, hook: Hook) -> list[Attempt]:
    """Return the latest deliveries, the newest first."""
    request = hook.recent()
    page, _ = await github.page(request)
    try:
        return attempts(page)
    except msgspec.ValidationError as error:
        raise GitHubUnavailable(f"{request.path}: the answer is not a list of deliveries ({error})") from error


async def _pinged(github: GitHub, hook: Hook, wait: float) -> Attempt:
    """Let GitHub send a ping; return its delivery. Raises `SetupError` if GitHub lists none in time."""
    before = {one.id for one in await _recent(github, hook)}
    await github.post(hook.ping())
    try:
        async with asyncio.timeout(wait):
            while (found := new_ping(await _recent(github, hook), before)) is None:  # noqa: ASYNC110 - it is GitHub's
                await asyncio.sleep(POLL_SECONDS)
            return found
    except TimeoutError:
        raise SetupError(
            f"{hook.name}: GitHub lists no answer to the ping after {wait:g} s; "
            f"`promgithub hooks check {hook.name}` shows later ones"
        ) from None


async def _answer(github: GitHub, hook: Hook, number: int) -> str:
    """Return the beginning of the receiver's answer to a delivery, for a message, or nothing."""
    answer = await github.get(hook.delivery(number))
    response = answer.get("response")
    text = response.get("payload") if isinstance(response, dict) else None
    words = re.sub(r"\s+", " ", text).strip() if isinstance(text, str) else ""
    return f" ({words[:ANSWER_SHOWN]})" if words else ""


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
