"""The hooks of organisations and repositories, and their pings."""

import asyncio
import json
import time
from typing import Any
from uuid import uuid1

import aiohttp
from aiohttp import web

from shared.delivery import Delivery
from tests.support.builders import Payload
from tests.support.fake_github.answers import known, not_found, scope_of
from tests.support.fake_github.deliveries import Deliveries
from tests.support.github import headers as signed_headers


class Hooks:
    """Sends real pings, and lists them among the deliveries. `url` is where the API is."""

    def __init__(self, url: str, deliveries: Deliveries) -> None:
        self.by_scope: dict[str, list[Payload]] = {}
        """The hooks of each organisation and repository, as the API shows them."""
        self.secrets: dict[int, str] = {}
        """The secret of each hook."""
        self.silent = False
        """Whether pings are accepted and never sent."""
        self._url = url
        self._deliveries = deliveries
        self._sending: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            route
            for hooks in ("/repos/{owner}/{repo}/hooks", "/orgs/{owner}/hooks")
            for route in (
                web.get(hooks, self._list),
                web.post(hooks, self._create),
                web.get(f"{hooks}/{{hook}}", self._one),
                web.post(f"{hooks}/{{hook}}/pings", self._ping),
            )
        ]

    def add(self, scope: str, **changed: Any) -> Payload:
        """Give an organisation or repository a hook; return it."""
        number = 5000 + sum(map(len, self.by_scope.values()))
        config = {"url": "", "content_type": "form", "insecure_ssl": "0"} | dict(changed.pop("config", {}))
        self.secrets[number] = config.get("secret", "")
        shown = config | ({"secret": "********"} if "secret" in config else {})
        place = f"{self._url}/{'repos' if '/' in scope else 'orgs'}/{scope}/hooks/{number}"
        hook = {
            "type": "Repository" if "/" in scope else "Organization",
            "id": number,
            "name": "web",
            "active": True,
            "events": ["push"],
            "config": shown,
            "updated_at": "2026-11-02T09:00:00Z",
            "created_at": "2026-11-02T09:00:00Z",
            "url": place,
            "ping_url": f"{place}/pings",
            "deliveries_url": f"{place}/deliveries",
        } | changed
        if "/" in scope:
            hook |= {"test_url": f"{place}/test", "last_response": {"code": None, "status": "unused", "message": None}}
        self.by_scope.setdefault(scope, []).append(hook)
        return hook

    def stop(self) -> None:
        """Cancel the pings that are still being sent."""
        for task in self._sending:
            task.cancel()

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response(self.by_scope.get(scope_of(request), []))

    async def _create(self, request: web.Request) -> web.Response:
        owner, wanted = scope_of(request), await request.json()
        if any(hook["config"]["url"] == wanted["config"]["url"] for hook in self.by_scope.get(owner, [])):
            wrong = {"resource": "Hook", "code": "custom", "message": "Hook already exists on this repository"}
            return web.json_response({"message": "Validation Failed", "errors": [wrong]}, status=422)
        hook = self.add(owner, **wanted)
        self._start_ping(hook)
        return web.json_response(hook, status=201)

    async def _one(self, request: web.Request) -> web.Response:
        return known(request, self._hook(request))

    async def _ping(self, request: web.Request) -> web.Response:
        hook = self._hook(request)
        if hook is None:
            return not_found()
        self._start_ping(hook)
        return web.Response(status=204)

    def _hook(self, request: web.Request) -> Payload | None:
        number = request.match_info["hook"]
        return next((hook for hook in self.by_scope.get(scope_of(request), []) if str(hook["id"]) == number), None)

    def _start_ping(self, hook: Payload) -> None:
        if not self.silent:
            task = asyncio.create_task(self._send_ping(hook))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_ping(self, hook: Payload) -> None:
        """Send a ping as GitHub does, and list how it was answered."""
        body = {"zen": "Keep it logically awesome.", "hook_id": hook["id"], "hook": hook}
        delivery = Delivery(str(uuid1()), "ping", json.dumps(body).encode(), 0)
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.post(
                    hook["config"]["url"],
                    data=delivery.body,
                    headers=signed_headers(delivery, self.secrets[hook["id"]]),
                ) as answer,
            ):
                code, text = answer.status, await answer.text()
        except aiohttp.ClientError:
            code, text = 502, ""
        status = "OK" if code < 300 else f"Invalid HTTP Response: {code}" if text else "failed to connect to host"
        self._deliveries.add(delivery, time.time(), code, status, text)
        if "last_response" in hook:
            hook["last_response"] = {"code": code, "status": "active", "message": status}
