"""The description of a request to GitHub's API."""

from dataclasses import dataclass

APP = ""
"""The scope of requests that a GitHub App sends as itself, and not as one of its installations."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the label value `endpoint`, the path or URL, the scope, and the permission that it needs.

    `scope` is the repository (`acme/gears`) or organisation (`acme`) of the request, or `APP`. `again` is True if the
    same request is sent repeatedly. Its answer is then cached for conditional requests.
    """

    endpoint: str
    path: str
    scope: str
    needs: str
    again: bool = False
