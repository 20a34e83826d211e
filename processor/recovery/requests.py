"""What a request to GitHub's API is, before anybody makes it."""

from dataclasses import dataclass

APP = ""
"""The scope of what a GitHub App asks as itself, and not as one of its installations."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request: a word for metrics, the path or URL, for whom, and which permission it takes.

    `scope` is the repository (`acme/gears`) or organisation (`acme`) that it is about, or `APP`. `again`: whether the
    same is asked again and again, so that it pays to remember the answer.
    """

    endpoint: str
    path: str
    scope: str
    needs: str
    again: bool = False
