"""The description of a request to GitHub's API."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

APP = ""
"""The scope of requests that a GitHub App sends as itself, and not as one of its installations."""

ANONYMOUS = "/"
"""The scope of requests without a credential."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the label value `endpoint`, the path or URL, the scope, and the permission that it needs.

    `scope` is the repository (`acme/gears`) or organisation (`acme`) of the request, or `APP` or `ANONYMOUS`. `again`
    is True if the same request is sent repeatedly. Its answer is then cached for conditional requests. `content` is the
    JSON object that a POST request sends; it may contain a secret. `shown_as` replaces a secret path in errors.
    """

    endpoint: str
    path: str
    scope: str
    needs: str
    again: bool = False
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)
    shown_as: str = ""

    @property
    def shown(self) -> str:
        """The path for an error message."""
        return self.shown_as or self.path
