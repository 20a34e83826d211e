"""GitHub's API: one request at a time, within the budget, with the patience that GitHub asks for."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec
from gidgethub import HTTPException, sansio
from gidgethub.aiohttp import GitHubAPI
from gidgethub.apps import get_jwt
from jwt.exceptions import PyJWTError

from processor.recovery.limits import Budget, Pace, pause
from processor.recovery.metrics import RecoveryMetrics
from processor.recovery.requests import APP, Request
from shared.errors import GitHubRefused, GitHubUnavailable, NotOnGitHub, SettingsError
from shared.logs import get_logger
from shared.settings import PREFIX, ProcessorSettings

API_VERSION = "2022-11-28"
"""The version whose answers are understood; Enterprise Server speaks it too (GitHub docs, "API versions")."""

TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10, sock_read=30)
"""A delivery may hold 25 MB."""

EARLY = 300.0
"""Seconds before its end at which an installation's token is replaced; it lasts an hour (GitHub docs, "Generating an
installation access token")."""

REMEMBERED = 300
"""Answers kept for conditional requests, a token's own each: 304 costs nothing of the limit (GitHub docs, "Best
practices"), and an ETag holds for one token only (https://github.com/github/docs/issues/34689)."""

ATTEMPTS = 5
"""How often a request is made that fails for no fault of its own."""

FRESH = 60.0
"""Seconds for which it is believed how much of the limit is left; another process may use the same token."""

LONG = 30.0
"""Seconds of waiting that are worth a line in the log."""

_log = get_logger(__name__)

_Remembered = tuple[str | None, str | None, Any, str | None]

_Kind = TypeVar("_Kind", bound=msgspec.Struct)

Sleep = Callable[[float], Awaitable[None]]


class _Memory(OrderedDict[str, _Remembered]):
    """The last answers, for conditional requests."""

    def __setitem__(self, url: str, remembered: _Remembered) -> None:
        super().__setitem__(url, remembered)
        self.move_to_end(url)
        while len(self) > REMEMBERED:
            self.popitem(last=False)


class _Session(GitHubAPI):
    """gidgethub with one credential, which reports what it was answered."""

    def __init__(
        self, client: aiohttp.ClientSession, heard: Callable[[int, Mapping[str, str]], None], **credential: Any
    ) -> None:
        super().__init__(client, "promgithub", **credential)
        self._heard = heard
        self._memory = _Memory()

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {**headers, "x-github-api-version": API_VERSION}
        status, answered, content = await super()._request(method, url, headers, body)
        self._heard(status, answered)
        return status, answered, content

    async def call(self, method: str, path: str, *, remember: bool) -> tuple[Any, str | None]:
        """Return the decoded answer, and the address of the next page if there is one; one call at a time."""
        self._cache = self._memory if remember else None
        data: Any = b"" if method == "GET" else {}
        answer, more, _ = await self._make_request(method, path, {}, data, sansio.accept_format())
        return answer, more


class _Installation(msgspec.Struct, frozen=True):
    """An installation of an App."""

    id: int


class _Token(msgspec.Struct, frozen=True):
    """A token of an installation, and when it ends."""

    token: str
    expires_at: datetime


@dataclass(slots=True)
class _Credential:
    """A session, and when (Unix s) its token ends; `name` says whose it is."""

    name: str
    session: _Session
    ends: float = float("inf")


class GitHub:
    """A client of GitHub's API for as long as it is entered. Every method raises `GitHubError`."""

    def __init__(
        self,
        settings: ProcessorSettings,
        metrics: RecoveryMetrics,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`clock` gives Unix seconds, and `sleep` lets some pass."""
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._pace = Pace()
        self._budgets: dict[str, Budget] = {}
        self._credentials: dict[str, _Credential] = {}
        self._installations: dict[str, _Credential] = {}
        self._asking = ("", "")
        self._client: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(timeout=TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def get(self, request: Request) -> dict[str, Any]:
        """Return an object. Raises `NotOnGitHub` if there is none that GitHub would show."""
        answer, _ = await self._asked("GET", request)
        if not isinstance(answer, dict):
            raise GitHubUnavailable(f"{request.path}: GitHub answered with something that is no JSON object")
        return answer

    async def page(self, request: Request) -> tuple[Any, str | None]:
        """Return a page, and the address of the next one if there is one."""
        return await self._asked("GET", request)

    async def post(self, request: Request) -> Any:
        """Ask for something to be done; return the answer."""
        return (await self._asked("POST", request))[0]

    async def _asked(self, method: str, request: Request) -> tuple[Any, str | None]:
        """Ask as whoever may see what the request is about."""
        renewed = False
        while True:
            credential = await self._credential(request.scope)
            try:
                return await self._patiently(method, request, credential)
            except HTTPException as error:
                # A token that ends while we waited is no reason to give up.
                if error.status_code == 401 and not self._settings.github_token and not renewed:
                    self._installations.pop(_owner(request.scope), None)
                    renewed = True
                    continue
                raise _refusal(request, credential, error) from None

    async def _patiently(self, method: str, request: Request, credential: _Credential) -> tuple[Any, str | None]:
        """Ask until there is an answer, or asking again would not help. Raises `HTTPException` if it is a refusal."""
        for attempt in range(1, ATTEMPTS + 1):
            failure = None
            try:
                return await self._once(method, request, credential)
            except HTTPException as error:
                failure, status, headers, message = error, int(error.status_code), error.headers, str(error)
            except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
                status, headers, message = 0, {}, f"{type(error).__name__}: {error}"
                self._metrics.requests.labels(request.endpoint, "none").inc()
            seconds = pause(status, headers, message, attempt, self._clock())
            if failure is not None and seconds is None:
                raise failure
            if seconds is None or attempt == ATTEMPTS:
                break
            _log.warning(
                "GitHub will be asked again",
                endpoint=request.endpoint,
                reason=status or message,
                pause_seconds=round(seconds, 1),
            )
            await self._sleep(seconds)
        raise GitHubUnavailable(f"{request.path}: GitHub does not answer as it should ({status or message})")

    async def _once(self, method: str, request: Request, credential: _Credential) -> tuple[Any, str | None]:
        """Ask once, when it is our turn and the budget has room: somebody else may have taken that meanwhile."""
        while True:
            await self._room(credential)
            async with self._turn:
                if self._budget(credential.name).wait(self._clock()) == 0:
                    return await self._now(method, request, credential)

    async def _now(self, method: str, request: Request, credential: _Credential) -> tuple[Any, str | None]:
        await self._sleep(self._pace.wait(method, self._clock()))
        self._asking = (request.endpoint, credential.name)
        self._budget(credential.name).spend()
        return await credential.session.call(method, request.path, remember=request.again)

    async def _room(self, credential: _Credential) -> None:
        """Wait until the budget has room for another request."""
        budget = self._budget(credential.name)
        if credential.name != "app" and self._clock() - budget.heard_at > FRESH:
            await self._learn(credential)
        while (seconds := budget.wait(self._clock())) > 0:
            if seconds > LONG:
                _log.info("the budget for GitHub's API is used up", seconds=round(seconds), credential=credential.name)
            await self._sleep(seconds)

    async def _learn(self, credential: _Credential) -> None:
        """Ask what is left of the limit, which costs nothing of it; Enterprise Server may have none, and says 404."""
        self._budget(credential.name).heard_at = self._clock()
        try:
            async with self._turn:
                await self._now("GET", Request("rate_limit", "/rate_limit", APP, ""), credential)
        except (HTTPException, aiohttp.ClientError, OSError, ValueError):
            return  # whatever it is, the request itself will say

    def _heard(self, status: int, headers: Mapping[str, str]) -> None:
        endpoint, name = self._asking
        self._metrics.requests.labels(endpoint, str(status)).inc()
        budget = self._budget(name)
        budget.hear(headers, self._clock())
        if budget.limit is not None and budget.remaining is not None:
            kind = name.partition(" ")[0]
            self._metrics.limit.labels(kind).set(budget.limit)
            self._metrics.remaining.labels(kind).set(budget.remaining)

    def _budget(self, name: str) -> Budget:
        return self._budgets.setdefault(name, Budget(self._settings.github_api_budget))

    # --- As whom ---

    async def _credential(self, scope: str) -> _Credential:
        token = self._settings.github_token
        if token is not None:
            return self._kept("token", lambda: self._session(oauth_token=token.get_secret_value()))
        if scope == APP:
            return self._app()
        kept = self._installations.get(_owner(scope))
        if kept is None or kept.ends - EARLY < self._clock():
            kept = self._installations[_owner(scope)] = await self._installation(scope)
        return kept

    def _app(self) -> _Credential:
        app_id, key = self._settings.github_app_id, self._settings.github_app_key
        if app_id is None or key is None:
            raise SettingsError(f"{PREFIX}GITHUB_APP_ID: not set; only an App may ask that")
        try:
            get_jwt(app_id=app_id, private_key=key.get_secret_value())
        except (PyJWTError, ValueError, TypeError):
            raise SettingsError(f"{PREFIX}GITHUB_APP_KEY: got no private key, takes the PEM text of one") from None
        return self._kept("app", lambda: self._session(app_id=app_id, private_key=key.get_secret_value()))

    async def _installation(self, scope: str) -> _Credential:
        """Return a token of the App's installation on a repository or organisation."""
        place = f"/repos/{scope}" if "/" in scope else f"/orgs/{scope}"
        needs = "the App to be installed there"
        installation = await self.get(Request("installation", f"{place}/installation", APP, needs))
        number = _understood(installation, _Installation).id
        made = await self.post(Request("access_token", f"/app/installations/{number}/access_tokens", APP, needs))
        token = _understood(made, _Token)
        session = self._session(oauth_token=token.token)
        return _Credential(f"installation {number}", session, token.expires_at.timestamp())

    def _kept(self, name: str, make: Callable[[], _Session]) -> _Credential:
        if name not in self._credentials:
            self._credentials[name] = _Credential(name, make())
        return self._credentials[name]

    def _session(self, **credential: Any) -> _Session:
        url = self._settings.github_api_url.get_secret_value()
        return _Session(self._client, self._heard, base_url=url, **credential)


def _understood(answer: Any, kind: type[_Kind]) -> _Kind:
    """Return an answer as what it should be. Raises `GitHubUnavailable` if it is not."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise GitHubUnavailable(f"GitHub answered with something unknown ({error})") from error


def _owner(scope: str) -> str:
    """Return the account that an App is installed on, once for all of its repositories."""
    return scope.partition("/")[0]


def _refusal(request: Request, credential: _Credential, error: HTTPException) -> GitHubRefused:
    """Return what to tell an operator, who has to know what is missing."""
    status = int(error.status_code)
    if status == 401:
        wrong = "GITHUB_TOKEN" if credential.name == "token" else "GITHUB_APP_ID or GITHUB_APP_KEY"
        return GitHubRefused(f"{PREFIX}{wrong}: GitHub does not take it (401); is it right, and has it not expired?")
    accepted = error.headers.get("x-accepted-github-permissions")
    said = f"; GitHub says: {accepted}" if accepted else ""
    message = f"{request.path}: GitHub answers {status} ({error}); needs {request.needs}{said}"
    return NotOnGitHub(message) if status in {404, 410} else GitHubRefused(message)
