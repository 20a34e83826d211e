"""Reads the API of the status page of a running promgithub."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import NoReturn

import aiohttp
import msgspec
from yarl import URL

from processor.status.endpoints import ENDPOINTS, Endpoint
from processor.status.queries import Query, parameters_of
from processor.status.views import Failures, Insights, Open, Pipeline, Problem
from promgithub.commands.tables import printable
from shared.errors import StatusError

TIMEOUT = 30.0
"""Seconds to wait for an answer. The server needs some seconds for each that it has not in its cache."""

LONGEST_REASON = 300
"""Maximum number of characters that are shown of an error that the server reports."""

_TAKES = "takes the URL of the admin port of a processor or standalone, on which PROMGITHUB_STATUS_PAGE is true"


@dataclass(frozen=True, slots=True)
class Status:
    """The answers of all endpoints."""

    open: Open
    failures: Failures
    insights: Insights
    pipeline: Pipeline


class NotThereError(StatusError):
    """Nothing answers at a URL, or there is no status page."""

    def __init__(self, url: URL, reason: str) -> None:
        super().__init__(f"{url}: {reason}; {_TAKES}")
        self.place = f"{url} ({reason})"


class StatusClient:
    """Reads from one server."""

    def __init__(self, client: aiohttp.ClientSession, url: URL) -> None:
        """`url` is that of the admin port."""
        self._client = client
        self._url = url
        self.shown_url = url.with_user(None)  # and without a password
        """The URL without credentials."""

    async def read(self, query: Query) -> Mapping[str, bytes]:
        """Return the answer of each endpoint in JSON, by name. Raises `StatusError`."""
        given = parameters_of(query)
        answers = {}
        for endpoint in ENDPOINTS:
            chosen = {name: value for name, value in given.items() if name in endpoint.parameters}
            answers[endpoint.name] = await self._get(endpoint, chosen)
        return answers

    def decode(self, answers: Mapping[str, bytes]) -> Status:
        """Return the answers as views. Raises `StatusError`."""
        try:
            views = {one.name: msgspec.json.decode(answers[one.name], type=one.view) for one in ENDPOINTS}
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StatusError(
                f"{self.shown_url}: the answer is not that of promgithub {version('promgithub')} "
                f"({printable(str(error))[:LONGEST_REASON]}); use the command of the version that runs there"
            ) from None
        return Status(**views)  # type: ignore[arg-type]

    async def check(self) -> None:
        """Raise `NotThereError` if there is no status page, or `StatusError` if its answer is an error."""
        health = next(endpoint for endpoint in ENDPOINTS if endpoint.view is Pipeline)
        await self._get(health, {})

    async def _get(self, endpoint: Endpoint, parameters: Mapping[str, str]) -> bytes:
        url = self._url.joinpath(endpoint.path.lstrip("/")).with_query(parameters)
        try:
            async with self._client.get(
                url, timeout=aiohttp.ClientTimeout(total=TIMEOUT), allow_redirects=False
            ) as answer:
                body = await answer.read()
                if answer.status == 200 and answer.content_type == "application/json":
                    return body
                self._refuse(answer.status, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotThereError(self.shown_url, _reason(error)) from None

    def _refuse(self, status: int, body: bytes) -> NoReturn:
        problem = _problem(body) if status in {400, 503} else None
        if problem is None:
            reason = "no status page there" if status in {200, 404} else "the answer is not promgithub's"
            raise NotThereError(self.shown_url, f"{reason}, status {status}")
        if status == 400:
            raise StatusError(f"{self.shown_url}: {problem}; promgithub there is of another version than this command")
        raise StatusError(f"{self.shown_url}: {problem}; see {self.shown_url.joinpath('readyz')} and its log")


async def find(client: aiohttp.ClientSession, urls: Sequence[URL]) -> StatusClient:
    """Return a client of the first URL that has a status page. Raises `StatusError` if none has."""
    missing = []
    for url in urls:
        found = StatusClient(client, url)
        try:
            await found.check()
        except NotThereError as error:
            if len(urls) == 1:
                raise
            missing.append(error.place)
        else:
            return found
    raise StatusError(f"no status page at {' or '.join(missing)}; start promgithub, or give its URL")


def _problem(body: bytes) -> str | None:
    """Return the error in an answer of the API; None if it is none."""
    try:
        return printable(msgspec.json.decode(body, type=Problem).error)[:LONGEST_REASON]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _reason(error: Exception) -> str:
    """Return why there is no answer."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} s"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name of the host is not known"
    number = error.errno if isinstance(error, OSError) else None
    text = os.strerror(number) if number and number > 0 else str(error) or type(error).__name__
    return printable(text)[:LONGEST_REASON]
