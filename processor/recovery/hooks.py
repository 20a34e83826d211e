"""The hooks in the setting GITHUB_HOOKS, and the API requests about them. Pure.

Endpoints and permissions: https://docs.github.com/en/rest/repos/webhooks, /rest/orgs/webhooks, /rest/apps/webhooks.
"""

from dataclasses import dataclass

from processor.recovery.requests import APP, Request


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook: its name in the setting, the path of its deliveries, and the scope of the requests.

    `target` is the kind of its owner, as in the header `X-GitHub-Hook-Installation-Target-Type`. `needs` is the
    permission, with a placeholder for `read` or `write`.
    """

    name: str
    path: str
    scope: str
    target: str
    needs: str
    hook_id: str | None = None

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


def parse_hook(text: str) -> Hook:
    """Parse one valid item of the setting."""
    parts = text.split("/")
    if text == "app":
        return Hook(text, "/app/hook/deliveries", APP, "integration", "the App's own private key")
    if len(parts) == 2:
        owner, hook_id = parts
        path = f"/orgs/{owner}/hooks/{hook_id}/deliveries"
        needs = "the organisation permission Webhooks: {} (classic: admin:org_hook) of an owner"
        return Hook(text, path, owner, "organization", needs, hook_id)
    owner, repository, hook_id = parts
    path = f"/repos/{owner}/{repository}/hooks/{hook_id}/deliveries"
    needs = "the repository permission Webhooks: {} (classic: repo) of an administrator"
    return Hook(text, path, f"{owner}/{repository}", "repository", needs, hook_id)
