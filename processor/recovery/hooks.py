"""The hooks in the setting GITHUB_HOOKS, the owners of hooks, and the API requests about both. Pure.

Endpoints and permissions: https://docs.github.com/en/rest/repos/webhooks, /rest/orgs/webhooks, /rest/apps/webhooks.
"""

from collections.abc import Collection
from dataclasses import dataclass

from processor.recovery.requests import APP, Request

_ORGANISATION_NEEDS = "the organisation permission Webhooks: {} (classic: admin:org_hook) of an owner"
_REPOSITORY_NEEDS = "the repository permission Webhooks: {} (classic: repo) of an administrator"


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook: its name in the setting, the path of its deliveries, and the scope of the requests.

    `target` is the kind of its owner, as in the header `X-GitHub-Hook-Installation-Target-Type`. `needs` is the
    permission, with a placeholder for `read` or `write`. `page_path` is the path of its page in GitHub's settings.
    """

    name: str
    path: str
    scope: str
    target: str
    needs: str
    hook_id: str | None = None
    page_path: str = "/settings/apps"

    def failures(self) -> Request:
        """Return the request for the first page of the failed deliveries."""
        path = f"{self.path}?per_page=100&status=failure"
        return Request("deliveries", path, self.scope, self.needs.format("read"), again=True)

    def page(self, url: str) -> Request:
        """Return the request for a further page; `url` comes from GitHub's answer."""
        return Request("deliveries", url, self.scope, self.needs.format("read"))

    def delivery(self, number: int) -> Request:
        """Return the request for one delivery, including its payload."""
        return Request("delivery", f"{self.path}/{number}", self.scope, self.needs.format("read"))

    def attempt(self, number: int) -> Request:
        """Return the request that makes GitHub redeliver."""
        return Request("attempt", f"{self.path}/{number}/attempts", self.scope, self.needs.format("write"))

    def recent(self) -> Request:
        """Return the request for the latest deliveries."""
        return Request("deliveries", f"{self.path}?per_page=100", self.scope, self.needs.format("read"))

    def definition(self) -> Request:
        """Return the request for the hook itself. That of an App has only its configuration."""
        place = self.path.removesuffix("/deliveries")
        return Request("hook", place if self.hook_id else f"{place}/config", self.scope, self.needs.format("read"))

    def app(self) -> Request:
        """Return the request for the App of the hook `app`, which has the events."""
        return Request("app", "/app", self.scope, self.needs)

    def ping(self) -> Request:
        """Return the request that makes GitHub send a ping. An App has none."""
        path = f"{self.path.removesuffix('/deliveries')}/pings"
        return Request("ping", path, self.scope, self.needs.format("write"))


@dataclass(frozen=True, slots=True)
class HookOwner:
    """A repository or an organisation: its name on the command line, the path of its hooks, and the scope of requests.

    `needs` is as in `Hook`.
    """

    name: str
    path: str
    scope: str
    needs: str

    def hooks(self) -> Request:
        """Return the request for the first page of its hooks."""
        return Request("hooks", f"{self.path}?per_page=100", self.scope, self.needs.format("read"))

    def page(self, url: str) -> Request:
        """Return the request for a further page; `url` comes from GitHub's answer."""
        return Request("hooks", url, self.scope, self.needs.format("read"))

    def creation(self, url: str, secret: str, events: Collection[str]) -> Request:
        """Return the request that creates a hook for `events` with the payload URL `url`."""
        config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
        content = {"name": "web", "active": True, "events": sorted(events), "config": config}
        return Request("hooks", self.path, self.scope, self.needs.format("write"), content=content)

    def hook_name(self, hook_id: int) -> str:
        """Return the name of one of its hooks in the setting GITHUB_HOOKS."""
        return f"{self.scope}/{hook_id}"


def parse_owner(text: str) -> HookOwner:
    """Parse a valid `org:ORGANISATION` or `repo:OWNER/REPOSITORY`."""
    kind, _, scope = text.partition(":")
    if kind == "org":
        return HookOwner(text, f"/orgs/{scope}/hooks", scope, _ORGANISATION_NEEDS)
    return HookOwner(text, f"/repos/{scope}/hooks", scope, _REPOSITORY_NEEDS)


def parse_hook(text: str) -> Hook:
    """Parse one valid item of the setting."""
    parts = text.split("/")
    if text == "app":
        return Hook(text, "/app/hook/deliveries", APP, "integration", "the App's own private key")
    if len(parts) == 2:
        owner, hook_id = parts
        path = f"/orgs/{owner}/hooks/{hook_id}/deliveries"
        page_path = f"/organizations/{owner}/settings/hooks/{hook_id}"
        return Hook(text, path, owner, "organization", _ORGANISATION_NEEDS, hook_id, page_path)
    owner, repository, hook_id = parts
    scope = f"{owner}/{repository}"
    path = f"/repos/{scope}/hooks/{hook_id}/deliveries"
    return Hook(text, path, scope, "repository", _REPOSITORY_NEEDS, hook_id, f"/{scope}/settings/hooks/{hook_id}")
