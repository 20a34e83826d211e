"""The deliveries of hooks, and the attempts to deliver them."""

import json
import time
from typing import Any

from aiohttp import web

from shared.delivery import Delivery
from tests.support.fake_github.answers import next_page, not_found

HOOK = "acme/gears/1234"
PAGE = 100


class Deliveries:
    """One list of attempts, which every hook shows as its own."""

    def __init__(self) -> None:
        self.attempts: list[dict[str, Any]] = []
        """The attempts in the list, the oldest first."""
        self.details: dict[int, dict[str, Any]] = {}
        self.redelivered: list[int] = []
        self.next_page: str | None = None
        """The URL that the header `Link` of each list names, instead of the next page."""

    def routes(self) -> list[web.RouteDef]:
        return [
            route
            for hook in ("/repos/{owner}/{repo}/hooks/{hook}", "/orgs/{owner}/hooks/{hook}", "/app/hook")
            for route in (
                web.get(f"{hook}/deliveries", self._list),
                web.get(f"{hook}/deliveries/{{number}}", self._detail),
                web.post(f"{hook}/deliveries/{{number}}/attempts", self._redeliver),
            )
        ]

    def failed(self, delivery: Delivery, at: float, code: int = 502) -> int:
        """List an attempt that failed at a moment (Unix seconds); return its number."""
        return self.add(delivery, at, code, "failed")

    def succeeded(self, delivery: Delivery, at: float) -> int:
        return self.add(delivery, at, 202, "OK")

    def add(self, delivery: Delivery, at: float, code: int, status: str, answer: str = "") -> int:
        """List an attempt at a moment (Unix seconds), with the text of the answer to it; return its number."""
        number = 1000 + len(self.attempts)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        item = {
            "id": number,
            "guid": delivery.id,
            "delivered_at": moment,
            "redelivery": False,
            "duration": 0.03,
            "status": status,
            "status_code": code,
            "event": delivery.event,
            "action": None,
            "installation_id": None,
            "repository_id": 186853002,
            "throttled_at": None,
        }
        self.attempts.append(item)
        headers = {"X-GitHub-Hook-ID": "1234", "X-GitHub-Hook-Installation-Target-ID": "186853002"}
        if delivery.host is not None:
            headers["X-GitHub-Enterprise-Host"] = delivery.host
        self.details[number] = {"delivery": delivery, "item": item, "headers": headers, "answer": answer}
        return number

    async def _list(self, request: web.Request) -> web.Response:
        place = int(request.query.get("cursor", "0"))
        only_failures = request.query.get("status") == "failure"
        shown = [item for item in reversed(self.attempts) if not only_failures or item["status"] != "OK"]
        link = next_page(request, cursor=place + PAGE) if place + PAGE < len(shown) else {}
        if self.next_page is not None:
            link = {"Link": f'<{self.next_page}>; rel="next"'}
        return web.json_response(shown[place : place + PAGE], headers=link)

    async def _detail(self, request: web.Request) -> web.Response:
        detail = self.details.get(int(request.match_info["number"]))
        if detail is None:
            return not_found()
        told = {"headers": detail["headers"], "payload": json.loads(detail["delivery"].body)}
        response = {"headers": {}, "payload": detail["answer"]}
        return web.json_response(detail["item"] | {"url": "", "request": told, "response": response})

    async def _redeliver(self, request: web.Request) -> web.Response:
        self.redelivered.append(int(request.match_info["number"]))
        return web.json_response({}, status=202)
