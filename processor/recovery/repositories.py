"""The repositories of the hooks in GITHUB_HOOKS."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from processor.recovery.client import GitHub
from processor.recovery.history import listed
from processor.recovery.hooks import Hook
from processor.recovery.requests import APP, Request
from shared.logs import get_logger

_log = get_logger(__name__)

_METADATA = "the repository permission Metadata: read (classic: repo)"


async def repositories_of(github: GitHub, hooks: Sequence[Hook]) -> list[str]:
    """Return the names of the repositories whose events the hooks receive, without duplicates. Raises `GitHubError`.

    Lists: https://docs.github.com/en/rest/repos/repos#list-organization-repositories and, for an App,
    https://docs.github.com/en/rest/apps/installations#list-repositories-accessible-to-the-app-installation.
    """
    names: dict[str, None] = {}
    for hook in hooks:
        async for name in _of(github, hook):
            names[name] = None
    return list(names)


async def _of(github: GitHub, hook: Hook) -> AsyncIterator[str]:
    if hook.target == "repository":
        yield hook.scope
    elif hook.target == "organization":
        first = Request("repositories", f"/orgs/{hook.scope}/repos?per_page=100", hook.scope, _METADATA)
        async for name in _names(github, first):
            yield name
    else:
        async for account in _accounts(github, hook):
            path = "/installation/repositories?per_page=100"
            async for name in _names(github, Request("repositories", path, account, _METADATA)):
                yield name


async def _accounts(github: GitHub, hook: Hook) -> AsyncIterator[str]:
    """Yield the organisations on which the App is installed."""
    request: Request | None = Request("installations", "/app/installations?per_page=100", APP, hook.needs)
    while request is not None:
        page, more = await github.page(request)
        for installation in page if isinstance(page, list) else []:
            account = installation.get("account") if isinstance(installation, dict) else None
            if not isinstance(account, dict) or not isinstance(account.get("login"), str):
                continue
            if account.get("type") == "User":  # the client finds installations of organisations and repositories only
                _log.warning("repositories of a user are read only if the command names them", user=account["login"])
            else:
                yield account["login"]
        request = None if more is None else replace(request, path=more)


async def _names(github: GitHub, first: Request) -> AsyncIterator[str]:
    request: Request | None = first
    while request is not None:
        page, more = await github.page(request)
        for repository in listed(page if isinstance(page, dict) else {"repositories": page}, "repositories"):
            if isinstance(repository.get("full_name"), str):
                yield repository["full_name"]
        request = None if more is None else replace(request, path=more)
