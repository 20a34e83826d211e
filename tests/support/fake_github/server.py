"""The server of the fake, and what holds for every request to it."""

import socket
import time
from collections import Counter, deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.support.fake_github.actions import Actions
from tests.support.fake_github.apps import Apps
from tests.support.fake_github.deliveries import Deliveries
from tests.support.fake_github.hooks import Hooks


class FakeGitHub:
    """A server on a free port of loopback, used as a context manager. A test sets its data and failures.

    `actions`, `apps`, `hooks` and `deliveries` have the data. `troubles` has answers (status, headers) that are sent
    before all others. `requests` counts the requests, by method and the last words of the path.
    """

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        """What the setting GITHUB_API_URL takes."""
        self.actions = Actions()
        self.apps = Apps(self.url, self.actions.repositories)
        self.deliveries = Deliveries()
        self.hooks = Hooks(self.url, self.deliveries)
        self.forbidden: set[str] = set()
        """What the token lacks the permission for: ends of paths, or parts of them that end with a slash."""
        self.broken: set[str] = set()
        """Ends of paths for which GitHub always fails."""
        self.limit = 5000
        self.used = 0
        self.reset = time.time() + 3600
        self.troubles: deque[tuple[int, Mapping[str, str]]] = deque()
        self.proxied: deque[tuple[int, bytes, Mapping[str, str]]] = deque()
        """Answers (status, body, headers) of a proxy before GitHub, sent before all others."""
        self.credentials: list[str] = []
        """The header `Authorization` of each request that had one."""
        self.requests: Counter[str] = Counter()
        self.asked: list[str] = []
        """The path of each request."""

    async def __aenter__(self) -> Self:
        application = web.Application(middlewares=[self._guard])
        application.add_routes([web.get("/rate_limit", self._rate_limit)])
        for part in (self.actions, self.apps, self.deliveries, self.hooks):
            application.add_routes(part.routes())
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hooks.stop()
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if "Authorization" in request.headers:
            self.credentials.append(request.headers["Authorization"])
        if self.proxied:
            status, body, headers = self.proxied.popleft()
            return web.Response(status=status, body=body, headers=headers)
        if request.path.startswith(("/settings", "/organizations")):
            page: web.StreamResponse = await handler(request)
            return page
        words = [word for word in request.path.split("/") if word and not word.isdigit()]
        self.requests[f"{request.method} {words[-1]}"] += 1
        self.asked.append(request.path)
        assert request.headers["X-GitHub-Api-Version"] == "2022-11-28"
        response: web.StreamResponse = self._trouble(request) or self._refusal(request) or await handler(request)
        if response.status == 304:
            self.used -= 1  # does not count against the limit
        if response.content_type == "application/json":
            self._add_limits(response)
        return response

    def _trouble(self, request: web.Request) -> web.Response | None:
        """Return a failure: the next one of `troubles`, that of a broken path, or that of the rate limit; else None."""
        if self.troubles:
            status, headers = self.troubles.popleft()
            return web.json_response({"message": "trouble"}, status=status, headers=headers)
        if request.path.endswith(tuple(self.broken)):
            return web.json_response({"message": "Server Error"}, status=502)
        if time.time() > self.reset:
            self.used, self.reset = 0, time.time() + 3600
        if request.path != "/rate_limit":
            if self.used >= self.limit:
                return web.json_response({"message": "API rate limit exceeded"}, status=403)
            self.used += 1
        return None

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a request without permission."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        asks_as_app = scheme.lower() == "bearer" and token.count(".") == 2
        if request.path.startswith("/app-manifests/"):
            return None
        if request.path.startswith("/app") or request.path.endswith("/installation"):
            if not asks_as_app:
                return web.json_response({"message": "A JSON web token could not be decoded"}, status=401)
        elif token not in self.apps.tokens:
            return web.json_response({"message": "Bad credentials"}, status=401)
        path = request.path
        if any(path.endswith(part) or (part in path and part.endswith("/")) for part in self.forbidden):
            message = "Resource not accessible by personal access token"
            permission = {"X-Accepted-GitHub-Permissions": "repository_hooks=read"}
            return web.json_response({"message": message}, status=403, headers=permission)
        return None

    def _add_limits(self, response: web.StreamResponse) -> None:
        limits = {"Limit": self.limit, "Remaining": max(0, self.limit - self.used), "Reset": int(self.reset)}
        for name, value in limits.items():
            response.headers.setdefault(f"X-RateLimit-{name}", str(value))

    async def _rate_limit(self, _request: web.Request) -> web.Response:
        return web.json_response({"resources": {}})
