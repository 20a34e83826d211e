"""A fake of the parts of GitHub's REST API that recovery uses, over real HTTP. A test sets its data and failures."""

import json
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType, TracebackType
from typing import Any, Self
from zlib import crc32

from aiohttp import web

from shared.delivery import Delivery
from tests.support.builders import Payload

TOKEN = "a-personal-token"
HOOK = "acme/gears/1234"
PAGE = 100


class FakeGitHub:
    """A server on a free port of loopback, used as a context manager.

    `troubles` has answers (status, headers) that are sent before all others. `requests` counts the requests, by method
    and the last words of the path.
    """

    def __init__(self) -> None:
        self.attempts: list[dict[str, Any]] = []
        """The attempts in the hooks' lists, the oldest first."""
        self.details: dict[int, dict[str, Any]] = {}
        self.runs: dict[tuple[int, int], Payload] = {}
        self.jobs: dict[int, Payload] = {}
        self.attempt_jobs: dict[tuple[int, int], Payload] = {}
        """The jobs by ID and attempt: a job that was carried over may be in several."""
        self.repositories: dict[str, Payload] = {}
        self.workflows: dict[int, Payload] = {}
        self.environments: list[Payload] = []
        """The environments of every repository."""
        self.gated: set[int] = set()
        """The jobs whose check runs have a deployment."""
        self.most_results = 1000
        """How many runs a list of runs has at most; GitHub's own limit is 1,000."""
        self.queries: list[Mapping[str, str]] = []
        """The parameters of each list of runs."""
        self.runners: dict[str, list[Payload]] = {}
        """The runners of each organisation and repository."""
        self.runner_groups: dict[str, list[Payload]] = {}
        """The runner groups of each organisation."""
        self.forbidden: set[str] = set()
        """What the token lacks the permission for: ends of paths, or parts of them that end with a slash."""
        self.broken: set[str] = set()
        """Ends of paths for which GitHub always fails."""
        self.tokens = {TOKEN}
        self.token_seconds = 3600.0
        self.minted = 0
        self.limit = 5000
        self.used = 0
        self.reset = time.time() + 3600
        self.troubles: deque[tuple[int, Mapping[str, str]]] = deque()
        self.proxied: deque[tuple[int, bytes, Mapping[str, str]]] = deque()
        """Answers (status, body, headers) of a proxy before GitHub, sent before all others."""
        self.next_page: str | None = None
        """What the header `Link` of each list names, instead of the next page."""
        self.credentials: list[str] = []
        """The header `Authorization` of each request that had one."""
        self.requests: Counter[str] = Counter()
        self.asked: list[str] = []
        self.redelivered: list[int] = []
        self._port = 0

    @property
    def url(self) -> str:
        """What the setting GITHUB_API_URL takes."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        application = web.Application(middlewares=[self._guard])
        application.add_routes(
            [
                web.get("/rate_limit", self._rate_limit),
                *(
                    route
                    for hooks in ("/repos/{owner}/{repo}/hooks/{hook}", "/orgs/{org}/hooks/{hook}", "/app/hook")
                    for route in (
                        web.get(f"{hooks}/deliveries", self._list),
                        web.get(f"{hooks}/deliveries/{{number}}", self._detail),
                        web.post(f"{hooks}/deliveries/{{number}}/attempts", self._redeliver),
                    )
                ),
                web.get("/repos/{owner}/{repo}", self._repository),
                web.get("/repos/{owner}/{repo}/actions/runs", self._all_runs),
                web.get("/repos/{owner}/{repo}/actions/workflows", self._workflows),
                web.get("/repos/{owner}/{repo}/environments", self._environments),
                web.get("/repos/{owner}/{repo}/check-suites/{suite}/check-runs", self._check_runs),
                web.get("/orgs/{org}/repos", self._organisation),
                web.get("/app/installations", self._installations),
                web.get("/installation/repositories", self._installed),
                web.get("/repos/{owner}/{repo}/actions/runs/{run}/attempts/{attempt}", self._run),
                web.get("/repos/{owner}/{repo}/actions/runs/{run}/attempts/{attempt}/jobs", self._attempt_jobs),
                web.get("/repos/{owner}/{repo}/actions/jobs/{job}", self._job),
                web.get("/orgs/{owner}/actions/runners", self._runners),
                web.get("/orgs/{owner}/actions/runner-groups", self._runner_groups),
                web.get("/repos/{owner}/{repo}/actions/runners", self._runners),
                web.get("/repos/{owner}/{repo}/installation", self._installation),
                web.get("/orgs/{org}/installation", self._installation),
                web.post("/app/installations/{id}/access_tokens", self._mint),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    # --- The truth ---

    def failed(self, delivery: Delivery, at: float, code: int = 502) -> int:
        """List an attempt that failed at a moment (Unix seconds); return its number."""
        return self._listed(delivery, at, code, "failed")

    def succeeded(self, delivery: Delivery, at: float) -> int:
        return self._listed(delivery, at, 202, "OK")

    def knows(self, payloads: Iterable[Payload]) -> None:
        """Store the runs and jobs in payloads; the last payload about each wins."""
        for payload in payloads:
            repository = payload["repository"]
            self.repositories[repository["full_name"]] = repository
            if run := payload.get("workflow_run"):
                workflow = payload["workflow"] | {"id": crc32(payload["workflow"]["name"].encode())}
                own = {"workflow_id": workflow["id"], "check_suite_id": run["id"]}
                self.runs[run["id"], run["run_attempt"]] = run | own
                self.workflows[workflow["id"]] = workflow
            elif job := payload.get("workflow_job"):
                self.jobs[job["id"]] = self.attempt_jobs[job["id"], job["run_attempt"]] = job
                if payload.get("deployment"):
                    self.gated.add(job["id"])

    def _listed(self, delivery: Delivery, at: float, code: int, status: str) -> int:
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
        self.details[number] = {"delivery": delivery, "item": item, "headers": headers}
        return number

    # --- The server ---

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if "Authorization" in request.headers:
            self.credentials.append(request.headers["Authorization"])
        if self.proxied:
            status, body, headers = self.proxied.popleft()
            return web.Response(status=status, body=body, headers=headers)
        words = [word for word in request.path.split("/") if word and not word.isdigit()]
        self.requests[f"{request.method} {words[-1]}"] += 1
        self.asked.append(request.path)
        assert request.headers["X-GitHub-Api-Version"] == "2022-11-28"
        refusal = self._trouble(request) or self._refusal(request)
        if refusal is not None:
            return refusal
        response: web.StreamResponse = await handler(request)
        return response

    def _trouble(self, request: web.Request) -> web.Response | None:
        """Return a failure: the next one of `troubles`, that of a broken path, or that of the rate limit; else None."""
        if self.troubles:
            status, headers = self.troubles.popleft()
            return self._answer({"message": "trouble"}, status, headers)
        if request.path.endswith(tuple(self.broken)):
            return self._answer({"message": "Server Error"}, 502)
        if time.time() > self.reset:
            self.used, self.reset = 0, time.time() + 3600
        if request.path != "/rate_limit":
            if self.used >= self.limit:
                return self._answer({"message": "API rate limit exceeded"}, 403)
            self.used += 1
        return None

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a request without permission."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        asks_as_app = scheme.lower() == "bearer" and token.count(".") == 2
        if request.path.startswith("/app") or request.path.endswith("/installation"):
            if not asks_as_app:
                return self._answer({"message": "A JSON web token could not be decoded"}, 401)
        elif token not in self.tokens:
            return self._answer({"message": "Bad credentials"}, 401)
        path = request.path
        if any(path.endswith(part) or (part in path and part.endswith("/")) for part in self.forbidden):
            permission = {"X-Accepted-GitHub-Permissions": "repository_hooks=read"}
            return self._answer({"message": "Resource not accessible by personal access token"}, 403, permission)
        return None

    def _answer(
        self, content: Any, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})
    ) -> web.Response:
        limits = {"limit": self.limit, "remaining": max(0, self.limit - self.used), "reset": int(self.reset)}
        told = {f"X-RateLimit-{name}": str(value) for name, value in limits.items()}
        return web.json_response(content, status=status, headers={**told, **headers})

    def _known(
        self, request: web.Request, content: Any, headers: Mapping[str, str] = MappingProxyType({})
    ) -> web.Response:
        """Return an answer, or 304 for a matching ETag, which does not count against the limit."""
        if content is None:
            return self._answer({"message": "Not Found"}, 404)
        etag = f'"{sha256(json.dumps(content).encode()).hexdigest()}"'
        if request.headers.get("If-None-Match") == etag:
            self.used -= 1
            return web.Response(status=304, headers={"ETag": etag})
        return self._answer(content, headers={"ETag": etag, **headers})

    async def _rate_limit(self, _request: web.Request) -> web.Response:
        return self._answer({"resources": {}})

    async def _list(self, request: web.Request) -> web.Response:
        place = int(request.query.get("cursor", "0"))
        shown = [item for item in reversed(self.attempts) if item["status"] != "OK"]
        if request.query.get("status") != "failure":
            shown = list(reversed(self.attempts))
        link = {}
        if place + PAGE < len(shown):
            url = request.url.update_query(cursor=str(place + PAGE))
            link = {"Link": f'<{self.url}{url.raw_path_qs}>; rel="next"'}
        if self.next_page is not None:
            link = {"Link": f'<{self.next_page}>; rel="next"'}
        return self._answer(shown[place : place + PAGE], headers=link)

    async def _detail(self, request: web.Request) -> web.Response:
        detail = self.details.get(int(request.match_info["number"]))
        if detail is None:
            return self._answer({"message": "Not Found"}, 404)
        payload = json.loads(detail["delivery"].body)
        told = {"headers": detail["headers"], "payload": payload}
        return self._answer(detail["item"] | {"url": "", "request": told, "response": {"headers": {}, "payload": ""}})

    async def _redeliver(self, request: web.Request) -> web.Response:
        self.redelivered.append(int(request.match_info["number"]))
        return self._answer({}, 202)

    async def _repository(self, request: web.Request) -> web.Response:
        name = f"{request.match_info['owner']}/{request.match_info['repo']}"
        return self._known(request, self.repositories.get(name))

    async def _all_runs(self, request: web.Request) -> web.Response:
        """List the newest attempt of each run in a window of creation times, the newest run first."""
        self.queries.append(dict(request.query))
        since, _, until = request.query.get("created", "..9999").partition("..")
        newest = {run: self.runs[run, attempt] for run, attempt in sorted(self.runs)}.values()
        name = f"{request.match_info['owner']}/{request.match_info['repo']}"
        own = [run for run in newest if run["repository"]["full_name"] == name and since <= run["created_at"] <= until]
        shown = sorted(own, key=lambda run: (run["created_at"], run["id"]), reverse=True)[: self.most_results]
        number, size = (int(request.query.get(key, default)) for key, default in (("page", "1"), ("per_page", "30")))
        link = {}
        if number * size < len(shown):
            url = request.url.update_query(page=str(number + 1))
            link = {"Link": f'<{self.url}{url.raw_path_qs}>; rel="next"'}
        page = shown[(number - 1) * size : number * size]
        return self._answer({"total_count": len(own), "workflow_runs": page}, headers=link)

    async def _workflows(self, _request: web.Request) -> web.Response:
        return self._answer({"total_count": len(self.workflows), "workflows": list(self.workflows.values())})

    async def _environments(self, _request: web.Request) -> web.Response:
        return self._answer({"total_count": len(self.environments), "environments": self.environments})

    async def _check_runs(self, request: web.Request) -> web.Response:
        suite = int(request.match_info["suite"])
        runs = {run for (run, _), payload in self.runs.items() if payload["check_suite_id"] == suite}
        checks = [
            {"id": job["id"], "name": job["name"]} | ({"deployment": {"id": 1}} if job["id"] in self.gated else {})
            for job in self.jobs.values()
            if job["run_id"] in runs
        ]
        return self._answer({"total_count": len(checks), "check_runs": checks})

    async def _organisation(self, request: web.Request) -> web.Response:
        owned = [one for name, one in self.repositories.items() if name.startswith(f"{request.match_info['org']}/")]
        return self._answer(owned)

    async def _installations(self, _request: web.Request) -> web.Response:
        owners = {name.partition("/")[0] for name in self.repositories}
        accounts = [{"login": owner, "type": "Organization"} for owner in sorted(owners)]
        return self._answer([{"id": 77, "account": account} for account in accounts])

    async def _installed(self, _request: web.Request) -> web.Response:
        return self._answer({"total_count": len(self.repositories), "repositories": list(self.repositories.values())})

    async def _run(self, request: web.Request) -> web.Response:
        key = int(request.match_info["run"]), int(request.match_info["attempt"])
        return self._known(request, self.runs.get(key))

    async def _attempt_jobs(self, request: web.Request) -> web.Response:
        run, attempt = int(request.match_info["run"]), int(request.match_info["attempt"])
        known = self.attempt_jobs.values()
        jobs = [job for job in known if (job["run_id"], job["run_attempt"]) == (run, attempt)]
        return self._known(
            request, {"total_count": len(jobs), "jobs": jobs} if jobs or (run, attempt) in self.runs else None
        )

    async def _job(self, request: web.Request) -> web.Response:
        return self._known(request, self.jobs.get(int(request.match_info["job"])))

    async def _runners(self, request: web.Request) -> web.Response:
        return self._numbered_page(request, "runners", self.runners)

    async def _runner_groups(self, request: web.Request) -> web.Response:
        return self._numbered_page(request, "runner_groups", self.runner_groups)

    def _numbered_page(self, request: web.Request, name: str, lists: Mapping[str, list[Payload]]) -> web.Response:
        """Return a page of a list by its number, with a header `Link` unless it is the last one."""
        items = lists.get("/".join(request.match_info.values()))
        if items is None:
            return self._known(request, None)
        number, size = (int(request.query.get(key, default)) for key, default in (("page", "1"), ("per_page", "30")))
        end = number * size
        link = {}
        if end < len(items):
            url = request.url.update_query(page=str(number + 1))
            link = {"Link": f'<{self.url}{url.raw_path_qs}>; rel="next"'}
        return self._known(request, {"total_count": len(items), name: items[end - size : end]}, link)

    async def _installation(self, _request: web.Request) -> web.Response:
        return self._answer({"id": 77})

    async def _mint(self, _request: web.Request) -> web.Response:
        self.minted += 1
        token = f"ghs_{self.minted}"
        self.tokens = {token}
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.token_seconds))
        return self._answer({"token": token, "expires_at": ends}, 201)
