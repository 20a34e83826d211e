"""Client of GitHub's API: sends one request at a time, and respects the rate limits."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec
from gidgethub import HTTPException
from gidgethub.apps import get_jwt
from jwt.exceptions import PyJWTError

from processor.recovery.limits import Budget, Pace, pause
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.requests import ANONYMOUS, APP, Request
from processor.recovery.session import Session
from shared.errors import GitHubRefused, GitHubUnavailable, NotOnGitHub, SettingsError
from shared.logs import get_logger
from shared.settings import PREFIX, ProcessorSettings

API_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10, sock_read=30)
"""The payload of a delivery may have 25 MB."""

EARLY = 300.0
"""An installation's token is replaced this many seconds before it expires. It is valid for one hour (GitHub docs,
"Generating an installation access token")."""

ATTEMPTS = 5
"""Maximum number of attempts if a rate limit, a server error or the network makes a request fail."""

FRESH = 60.0
"""How long a reported rate limit is used, in seconds. Other processes may use the same token."""

LONG = 30.0
"""Longer waits, in seconds, are logged."""

_log = get_logger(__name__)

_Kind = TypeVar("_Kind", bound=msgspec.Struct)

Sleep = Callable[[float], Awaitable[None]]


class _Installation(msgspec.Struct, frozen=True):
    id: int


class _Token(msgspec.Struct, frozen=True):
    """A token of an installation, and when it expires."""

    token: str
    expires_at: datetime


@dataclass(slots=True)
class _Credential:
    """A session, and when (Unix s) its token expires; `name` identifies the credential."""

    name: str
    session: Session
    ends: float = float("inf")


class GitHub:
    """A client of GitHub's API, used as a context manager. Every method raises `GitHubError`."""

    def __init__(
        self,
        settings: ProcessorSettings,
        metrics: RecoveryMetrics,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`clock` returns Unix seconds; `sleep` waits for a number of seconds."""
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
        self._client = aiohttp.ClientSession(timeout=API_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def get(self, request: Request) -> dict[str, Any]:
        """Return an object. Raises `NotOnGitHub` if it does not exist or the credential may not read it."""
        answer, _ = await self._asked("GET", request)
        if not isinstance(answer, dict):
            raise GitHubUnavailable(f"{request.shown}: GitHub's answer is not a JSON object")
        return answer

    async def page(self, request: Request) -> tuple[Any, str | None]:
        """Return a page and the URL of the next one, if there is one."""
        return await self._asked("GET", request)

    async def post(self, request: Request) -> Any:
        """Send a POST request; return the answer."""
        return (await self._asked("POST", request))[0]

    async def _asked(self, method: str, request: Request) -> tuple[Any, str | None]:
        """Send a request with the credential for its scope. Renews an expired token once."""
        renewed = False
        while True:
            credential = await self._credential(request.scope)
            try:
                return await self._patiently(method, request, credential)
            except HTTPException as error:
                # The token may have expired while the request waited.
                if error.status_code == 401 and not self._settings.github_token and not renewed:
                    self._installations.pop(_owner(request.scope), None)
                    renewed = True
                    continue
                raise _refusal(request, credential, error) from None

    async def _patiently(self, method: str, request: Request, credential: _Credential) -> tuple[Any, str | None]:
        """Send a request, with retries. Raises `HTTPException` if GitHub refuses it."""
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
                "request to GitHub failed, retrying",
                endpoint=request.endpoint,
                reason=status or message,
                pause_seconds=round(seconds, 1),
            )
            await self._sleep(seconds)
        raise GitHubUnavailable(f"{request.shown}: the request to GitHub failed ({status or message})")

    async def _once(self, method: str, request: Request, credential: _Credential) -> tuple[Any, str | None]:
        """Send a request once, as soon as the budget allows. Another task may use the budget up, so check it again."""
        while True:
            await self._room(credential)
            async with self._turn:
                if self._budget(credential.name).wait(self._clock()) == 0:
                    return await self._now(method, request, credential)

    async def _now(self, method: str, request: Request, credential: _Credential) -> tuple[Any, str | None]:
        await self._sleep(self._pace.wait(method, self._clock()))
        self._asking = (request.endpoint, credential.name)
        self._budget(credential.name).spend()
        return await credential.session.call(method, request.path, request.content, remember=request.again)

    async def _room(self, credential: _Credential) -> None:
        budget = self._budget(credential.name)
        if credential.name not in {"app", "anonymous"} and self._clock() - budget.heard_at > FRESH:
            await self._learn(credential)
        while (seconds := budget.wait(self._clock())) > 0:
            if seconds > LONG:
                _log.info("the budget for GitHub's API is used up", seconds=round(seconds), credential=credential.name)
            await self._sleep(seconds)

    async def _learn(self, credential: _Credential) -> None:
        """Request the rate limit. This does not count against it. An Enterprise Server without limits answers 404."""
        self._budget(credential.name).heard_at = self._clock()
        try:
            async with self._turn:
                await self._now("GET", Request("rate_limit", "/rate_limit", APP, ""), credential)
        except (HTTPException, aiohttp.ClientError, OSError, ValueError):
            return  # the request itself reports the error

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

    # --- Credentials ---

    async def _credential(self, scope: str) -> _Credential:
        if scope == ANONYMOUS:
            return self._kept("anonymous", lambda: self._session(dict))
        token = self._settings.github_token
        if token is not None:
            return self._kept("token", lambda: self._token_session(token.get_secret_value()))
        if scope == APP:
            return self._app()
        kept = self._installations.get(_owner(scope))
        if kept is None or kept.ends - EARLY < self._clock():
            kept = self._installations[_owner(scope)] = await self._installation(scope)
        return kept

    def _app(self) -> _Credential:
        app_id, key = self._settings.github_app_id, self._settings.github_app_key
        if app_id is None or key is None:
            raise SettingsError(f"{PREFIX}GITHUB_APP_ID: not set; only an App may send this request")
        sign = partial(get_jwt, app_id=app_id, private_key=key.get_secret_value())
        try:
            sign()
        except (PyJWTError, ValueError, TypeError):
            raise SettingsError(f"{PREFIX}GITHUB_APP_KEY: not a private key; takes the PEM text of one") from None
        return self._kept("app", lambda: self._session(lambda: {"jwt": sign()}))

    async def _installation(self, scope: str) -> _Credential:
        """Return a token of the App's installation on a repository or organisation."""
        place = f"/repos/{scope}" if "/" in scope else f"/orgs/{scope}"
        needs = "the App to be installed there"
        installation = await self.get(Request("installation", f"{place}/installation", APP, needs))
        number = understood(installation, _Installation).id
        made = await self.post(Request("access_token", f"/app/installations/{number}/access_tokens", APP, needs))
        token = understood(made, _Token)
        session = self._token_session(token.token)
        return _Credential(f"installation {number}", session, token.expires_at.timestamp())

    def _kept(self, name: str, make: Callable[[], Session]) -> _Credential:
        if name not in self._credentials:
            self._credentials[name] = _Credential(name, make())
        return self._credentials[name]

    def _token_session(self, token: str) -> Session:
        return self._session(lambda: {"oauth_token": token})

    def _session(self, authorize: Callable[[], Mapping[str, str]]) -> Session:
        return Session(self._client, self._settings.github_api_url.get_secret_value(), self._heard, authorize)


def check_configured(settings: ProcessorSettings) -> None:
    """Raise `SettingsError` if neither a token nor an App is configured."""
    if not configured(settings):
        raise SettingsError(
            f"{PREFIX}GITHUB_TOKEN: not set; takes a token, or {PREFIX}GITHUB_APP_ID and {PREFIX}GITHUB_APP_KEY_FILE"
        )


def configured(settings: ProcessorSettings) -> bool:
    """Return whether a token or an App is configured."""
    return bool(settings.github_token or settings.github_app_id)


def understood(answer: Any, kind: type[_Kind]) -> _Kind:
    """Convert an answer to its type. Raises `GitHubUnavailable` if it does not fit."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise GitHubUnavailable(f"GitHub's answer does not have the documented form ({error})") from error


def _owner(scope: str) -> str:
    """Return the account of a repository or organisation. An App has one installation per account."""
    return scope.partition("/")[0]


def _refusal(request: Request, credential: _Credential, error: HTTPException) -> GitHubRefused:
    """Return the error for the operator. It names the missing permission."""
    status = int(error.status_code)
    if status == 401 and credential.name != "anonymous":
        wrong = "GITHUB_TOKEN" if credential.name == "token" else "GITHUB_APP_ID or GITHUB_APP_KEY"
        return GitHubRefused(f"{PREFIX}{wrong}: GitHub does not accept it (401); check the value and its expiry date")
    accepted = error.headers.get("x-accepted-github-permissions")
    said = f"; GitHub says: {accepted}" if accepted else ""
    message = f"{request.shown}: GitHub answers {status} ({error}); needs {request.needs}{said}"
    return NotOnGitHub(message) if status in {404, 410} else GitHubRefused(message)
