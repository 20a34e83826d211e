"""The requests of `promgithub hooks` to GitHub's API. All of them raise `GitHubError`."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from processor.counting.events import COUNTED
from processor.recovery.client import GitHub, understood
from processor.recovery.hook_checks import HookConfig, ListedApp, ListedHook, new_ping, same_url
from processor.recovery.hooks import Hook, HookOwner
from processor.recovery.missing import Attempt, attempts
from processor.recovery.requests import APP
from shared.errors import GitHubUnavailable, SetupError

MOST_PAGES = 10
"""Maximum number of pages of a list of hooks. GitHub allows 20 hooks per event, Enterprise Server 250."""

POLL_SECONDS = 1.0
"""Pause between two looks at the deliveries of a hook."""

ANSWER_SHOWN = 200
"""Maximum number of characters of a receiver's answer that are printed."""


async def listed_hooks(github: GitHub, owner: HookOwner) -> AsyncIterator[ListedHook]:
    """Yield all hooks of an owner."""
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


async def created_hook(github: GitHub, owner: HookOwner, url: str, secret: str) -> tuple[str, bool]:
    """Return the name of the owner's hook with this URL, and whether it existed before."""
    async for hook in listed_hooks(github, owner):
        if same_url(hook.config.url, url):
            return owner.hook_name(hook.id), True
    made = understood(await github.post(owner.creation(url, secret, COUNTED)), ListedHook)
    return owner.hook_name(made.id), False


async def definition(github: GitHub, hook: Hook) -> tuple[ListedHook, str]:
    """Return a hook, and the path of its page in GitHub's settings."""
    answer = await github.get(hook.definition())
    if hook.scope != APP:
        return understood(answer, ListedHook), hook.page_path
    found = understood(await github.get(hook.app()), ListedApp)
    return ListedHook(understood(answer, HookConfig), events=found.events), found.page_path


async def recent_deliveries(github: GitHub, hook: Hook) -> list[Attempt]:
    """Return the latest deliveries, the newest first."""
    request = hook.recent()
    page, _ = await github.page(request)
    try:
        return attempts(page)
    except msgspec.ValidationError as error:
        raise GitHubUnavailable(f"{request.path}: the answer is not a list of deliveries ({error})") from error


async def pinged(github: GitHub, hook: Hook, wait: float) -> Attempt:
    """Let GitHub send a ping; return its delivery. Raises `SetupError` if GitHub lists none in time."""
    before = {one.id for one in await recent_deliveries(github, hook)}
    await github.post(hook.ping())
    try:
        async with asyncio.timeout(wait):
            while True:
                found = new_ping(await recent_deliveries(github, hook), before)
                if found is not None:
                    return found
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise SetupError(
            f"{hook.name}: GitHub lists no answer to the ping after {wait:g} s; "
            f"`promgithub hooks check {hook.name}` shows later ones"
        ) from None


async def receiver_answer(github: GitHub, hook: Hook, number: int) -> str:
    """Return the beginning of the receiver's answer to a delivery, for a message, or nothing."""
    answer = await github.get(hook.delivery(number))
    response = answer.get("response")
    text = response.get("payload") if isinstance(response, dict) else None
    words = re.sub(r"\s+", " ", text).strip() if isinstance(text, str) else ""
    return f" ({words[:ANSWER_SHOWN]})" if words else ""
