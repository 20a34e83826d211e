"""Requests to GitHub's API with one credential. Whatever the API, or a proxy before it, answers is an error of ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from gidgethub import HTTPException, sansio
from yarl import URL

from shared.errors import GitHubUnavailable
from shared.settings import PREFIX

API_VERSION = "2022-11-28"
"""The version of the REST API. Enterprise Server supports it too (GitHub docs, "API versions")."""

REMEMBERED = 300
"""Answers that each session caches for conditional requests. A 304 does not count against the rate limit (GitHub docs,
"Best practices"). An ETag is valid for one token only (https://github.com/github/docs/issues/34689)."""

MOST_BYTES = 64 * 1024 * 1024
"""Maximum size of an answer, in bytes. The largest is a delivery with its payload, which has at most 25 MB."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A cached answer, the URL of its next page, and its ETag."""

    etag: str
    answer: Any
    more: str | None


class Session:
    """Requests with one credential, to the host of `base_url` only.

    `heard` is called with the status and the headers of each answer. `authorize` returns the arguments of
    `sansio.create_headers`.
    """

    def __init__(
        self,
        client: aiohttp.ClientSession,
        base_url: str,
        heard: Callable[[int, Mapping[str, str]], None],
        authorize: Callable[[], Mapping[str, str]],
    ) -> None:
        self._client = client
        self._base_url = base_url
        self._heard = heard
        self._authorize = authorize
        self._memory: dict[str, _Remembered] = {}

    async def call(
        self, method: str, path: str, content: Mapping[str, Any], *, remember: bool
    ) -> tuple[Any, str | None]:
        """Return the decoded answer and the URL of the next page, if there is one. Only a POST request has content.

        Raises `HTTPException` if GitHub refuses the request, `aiohttp.ClientError` or `OSError` without an answer,
        `ValueError` if the answer cannot be read, and `GitHubUnavailable` if the next page is on another host.
        """
        url = sansio.format_url(path, None, base_url=self._base_url)
        remembered = self._memory.get(url) if remember else None
        headers = sansio.create_headers("promgithub", **self._authorize()) | {"x-github-api-version": API_VERSION}
        if remembered is not None:
            headers["if-none-match"] = remembered.etag
        sent = None if method == "GET" else content
        # aiohttp sends a body again where a 307 leads, also to another host. It may contain a webhook's secret.
        follow = not sent
        async with self._client.request(method, url, headers=headers, json=sent, allow_redirects=follow) as response:
            body = await _body(response)
        self._heard(response.status, response.headers)
        if response.status == 304 and remembered is not None:
            return remembered.answer, remembered.more
        answer, more = _deciphered(response, body)
        if more is not None:
            more = self._own(more)
        if remember and "etag" in response.headers:
            self._remember(url, _Remembered(response.headers["etag"], answer, more))
        return answer, more

    def _remember(self, url: str, remembered: _Remembered) -> None:
        self._memory.pop(url, None)
        self._memory[url] = remembered
        if len(self._memory) > REMEMBERED:
            del self._memory[next(iter(self._memory))]  # the oldest

    def _own(self, link: str) -> str:
        """Return the URL in a header `Link`. Raises `GitHubUnavailable` if the credential must not be sent there."""
        base = URL(self._base_url)
        target = base.join(URL(link))
        if target.origin() != base.origin():
            raise GitHubUnavailable(
                f"the answer names {target.origin()} for the next page, and not {base.origin()}; nothing was sent "
                f"there. If that is the same GitHub, set {PREFIX}GITHUB_API_URL to it"
            )
        return str(target)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            raise ValueError(f"an answer of over {MOST_BYTES} bytes")
    return bytes(body)


def _deciphered(response: aiohttp.ClientResponse, body: bytes) -> tuple[Any, str | None]:
    """Return the decoded answer and the content of its header `Link`; raises as `Session.call`."""
    # gidgethub fails on limits that are not whole numbers; `limits.Budget` reads them.
    headers = {name.lower(): value for name, value in response.headers.items()}
    plain = {name: value for name, value in headers.items() if not name.startswith("x-ratelimit-")}
    try:
        answer, _, more = sansio.decipher_response(response.status, plain, body)
    except HTTPException as error:
        error.headers = headers
        raise
    except Exception as error:  # an unknown charset, JSON that is invalid or too deep, a form that GitHub never sends
        raise ValueError(f"the answer {response.status} cannot be read ({type(error).__name__})") from error
    return answer, more
