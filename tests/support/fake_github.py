"""A fake of the parts of GitHub's REST API that promgithub uses, over real HTTP, and of the pages that create an App.

A test sets its data and failures.
"""

import asyncio
import json
import secrets
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import uuid1
from zlib import crc32

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.delivery import Delivery
from tests.support.builders import Payload
from tests.support.github import headers as signed_headers

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
        self.hooks: dict[str, list[Payload]] = {}
        """The hooks of each organisation and repository, as the API shows them."""
        self.secrets: dict[int, str] = {}
        """The secret of each hook."""
        self.silent = False
        """Whether pings are accepted and never sent."""
        self.app: Payload | None = None
        """The App, as the conversion of its manifest shows it."""
        self.app_hook: Payload = {}
        """The configuration of its hook."""
        self.manifests: dict[str, Payload] = {}
        """The manifests that were submitted, by the code that GitHub gave for each."""
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
        self._sending: set[asyncio.Task[None]] = set()

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
                *(
                    route
                    for hooks in ("/repos/{owner}/{repo}/hooks", "/orgs/{owner}/hooks")
                    for route in (
                        web.get(hooks, self._list_hooks),
                        web.post(hooks, self._create_hook),
                        web.get(f"{hooks}/{{hook}}", self._one_hook),
                        web.post(f"{hooks}/{{hook}}/pings", self._ping),
                    )
                ),
                web.get("/app", self._own_app),
                web.get("/app/hook/config", self._app_hook),
                web.post("/app-manifests/{code}/conversions", self._convert),
                *(web.post(f"{place}/settings/apps/new", self._new_app) for place in ("", "/organizations/{org}")),
                web.post("/settings/apps", self._create_app),
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
        for task in self._sending:
            task.cancel()
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

    def has_hook(self, scope: str, **changed: Any) -> Payload:
        """Give an organisation or repository a hook; return it."""
        number = 5000 + sum(map(len, self.hooks.values()))
        config = {"url": "", "content_type": "form", "insecure_ssl": "0"} | dict(changed.pop("config", {}))
        self.secrets[number] = config.get("secret", "")
        shown = config | ({"secret": "********"} if "secret" in config else {})
        place = f"{self.url}/{'repos' if '/' in scope else 'orgs'}/{scope}/hooks/{number}"
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
        self.hooks.setdefault(scope, []).append(hook)
        return hook

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
        number = self._listed(delivery, time.time(), code, status)
        self.details[number]["answer"] = text
        if "last_response" in hook:
            hook["last_response"] = {"code": code, "status": "active", "message": status}

    def _start_ping(self, hook: Payload) -> None:
        if not self.silent:
            task = asyncio.create_task(self._send_ping(hook))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

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
        if request.path.startswith(("/settings", "/organizations")):
            page: web.StreamResponse = await handler(request)
            return page
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
        if request.path.startswith("/app-manifests/"):
            return None
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
        response = {"headers": {}, "payload": detail.get("answer", "")}
        return self._answer(detail["item"] | {"url": "", "request": told, "response": response})

    async def _redeliver(self, request: web.Request) -> web.Response:
        self.redelivered.append(int(request.match_info["number"]))
        return self._answer({}, 202)

    async def _list_hooks(self, request: web.Request) -> web.Response:
        return self._answer(self.hooks.get("/".join(request.match_info.values()), []))

    async def _create_hook(self, request: web.Request) -> web.Response:
        scope, wanted = "/".join(request.match_info.values()), await request.json()
        if any(hook["config"]["url"] == wanted["config"]["url"] for hook in self.hooks.get(scope, [])):
            wrong = {"resource": "Hook", "code": "custom", "message": "Hook already exists on this repository"}
            return self._answer({"message": "Validation Failed", "errors": [wrong]}, 422)
        hook = self.has_hook(scope, **wanted)
        self._start_ping(hook)
        return self._answer(hook, 201)

    def _hook(self, request: web.Request) -> Payload | None:
        *scope, number = request.match_info.values()
        listed = self.hooks.get("/".join(scope), [])
        return next((hook for hook in listed if str(hook["id"]) == number), None)

    async def _one_hook(self, request: web.Request) -> web.Response:
        return self._known(request, self._hook(request))

    async def _ping(self, request: web.Request) -> web.Response:
        hook = self._hook(request)
        if hook is None:
            return self._answer({"message": "Not Found"}, 404)
        self._start_ping(hook)
        return web.Response(status=204)

    # --- The App ---

    async def _new_app(self, request: web.Request) -> web.Response:
        """Answer a manifest with the page that asks for the App's name, as GitHub does."""
        manifest = json.loads(str((await request.post())["manifest"]))
        assert manifest.keys() >= {"url", "redirect_url", "hook_attributes", "default_permissions", "default_events"}
        code = secrets.token_hex(20)
        self.manifests[code] = manifest | {"organization": request.match_info.get("org")}
        state = request.query["state"]
        form = f'<input type="hidden" name="code" value="{code}"><input type="hidden" name="state" value="{state}">'
        page = (
            f'<!doctype html><html lang="en"><title>New App</title><link rel="icon" href="data:,">'
            f'<form action="/settings/apps" method="post">{form}<button>Create GitHub App</button></form></html>'
        )
        return web.Response(text=page, content_type="text/html")

    async def _create_app(self, request: web.Request) -> web.Response:
        form = await request.post()
        code, state = str(form["code"]), str(form["state"])
        raise web.HTTPFound(f"{self.manifests[code]['redirect_url']}?code={code}&state={state}")

    async def _convert(self, request: web.Request) -> web.Response:
        """Answer with the App of a manifest. A code is valid once."""
        manifest = self.manifests.pop(request.match_info["code"], None)
        if manifest is None:
            return self._answer({"message": "Not Found"}, 404)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        kind, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
        organization = manifest["organization"]
        self.app = {
            "id": 419,
            "slug": manifest["name"],
            "node_id": "MDM6QXBwNDE5",
            "owner": {"login": organization or "octocat", "type": "Organization" if organization else "User"},
            "name": manifest["name"],
            "external_url": manifest["url"],
            "html_url": f"{self.url}/apps/{manifest['name']}",
            "client_id": "Iv23liAbCdEf",
            "client_secret": secrets.token_hex(20),
            "webhook_secret": secrets.token_hex(20),
            "pem": key.private_bytes(kind, form, serialization.NoEncryption()).decode(),
            "permissions": manifest["default_permissions"],
            "events": manifest["default_events"],
        }
        self.app_hook = {"url": manifest["hook_attributes"]["url"], "content_type": "json", "insecure_ssl": "0"}
        return self._answer(self.app, 201)

    async def _own_app(self, request: web.Request) -> web.Response:
        private = {"client_secret", "webhook_secret", "pem"}
        app = self.app and {name: value for name, value in self.app.items() if name not in private}
        return self._known(request, app)

    async def _app_hook(self, request: web.Request) -> web.Response:
        return self._known(request, self.app_hook | {"secret": "********"})

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
