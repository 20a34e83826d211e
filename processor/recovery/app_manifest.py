"""The registration of a GitHub App from a manifest: what is sent to GitHub, and what it answers. Pure.

The flow: https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest.
"""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from processor.recovery.requests import ANONYMOUS, Request

EVENT_PERMISSIONS: Mapping[str, str] = {
    "pull_request": "pull_requests",
    "push": "contents",
    "workflow_job": "actions",
    "workflow_run": "actions",
}
"""The repository permission that an App needs for each counted event; read access is enough
(https://docs.github.com/en/webhooks/webhook-events-and-payloads)."""

LONGEST_NAME = 34
"""Maximum number of characters in the name of an App (GitHub docs, "Registering a GitHub App")."""


class NewApp(msgspec.Struct, frozen=True):
    """An App that GitHub has registered, with its secrets."""

    id: int
    slug: str
    html_url: str
    pem: str
    webhook_secret: str

    @property
    def installation_url(self) -> str:
        """The page on which an owner installs the App."""
        return f"{self.html_url}/installations/new"


def app_name(owner: str) -> str:
    """Return a name for an App of `owner`. Names are unique on a GitHub; it can be changed on GitHub's page."""
    return f"promgithub-{owner}"[:LONGEST_NAME].rstrip("-")


def manifest(name: str, payload_url: str, redirect_url: str, events: Collection[str]) -> dict[str, Any]:
    """Return the manifest of an App that sends `events` to `payload_url`, with the permissions for that only."""
    parts = urlsplit(payload_url)
    permissions = {"metadata", *(EVENT_PERMISSIONS[event] for event in events)}
    return {
        "name": name,
        "url": f"{parts.scheme}://{parts.netloc}",
        "hook_attributes": {"url": payload_url, "active": True},
        "redirect_url": redirect_url,
        "public": False,
        "default_permissions": dict.fromkeys(sorted(permissions), "read"),
        "default_events": sorted(events),
    }


def apps_url(web: str, organisation: str | None) -> str:
    """Return the page of the Apps of an organisation, or of the user, on the GitHub at `web`."""
    place = f"/organizations/{organisation}" if organisation else ""
    return f"{web}{place}/settings/apps"


def registration_url(web: str, organisation: str | None, state: str) -> str:
    """Return the URL to which a form posts the manifest."""
    return f"{apps_url(web, organisation)}/new?{urlencode({'state': state})}"


def conversion(code: str) -> Request:
    """Return the request that gets the App for a code, once, within an hour."""
    needs = "a code that GitHub gave within the last hour and that was not used yet"
    shown = "/app-manifests/{code}/conversions"
    return Request("conversion", f"/app-manifests/{code}/conversions", ANONYMOUS, needs, shown_as=shown)
