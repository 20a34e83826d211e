"""GitHub Actions: repositories with their workflows, runs, jobs and environments, and the runners."""

from collections.abc import Iterable, Mapping
from zlib import crc32

from aiohttp import web

from tests.support.builders import Payload
from tests.support.fake_github.answers import known, not_found, numbered_page, scope_of


class Actions:
    """What payloads said, and what a test sets besides."""

    def __init__(self) -> None:
        self.repositories: dict[str, Payload] = {}
        self.runs: dict[tuple[int, int], Payload] = {}
        """The attempts of runs, by the ID of the run and the number of the attempt."""
        self.most_results = 1000
        """How many runs a list of runs has at most; GitHub's own limit is 1,000."""
        self.environments: list[Payload] = []
        """The environments of every repository."""
        self.runners: dict[str, list[Payload]] = {}
        """The runners of each organisation and repository."""
        self.runner_groups: dict[str, list[Payload]] = {}
        """The runner groups of each organisation."""
        self._workflows: dict[int, Payload] = {}
        self._jobs: dict[int, Payload] = {}
        self._attempt_jobs: dict[tuple[int, int], Payload] = {}
        """The jobs by ID and attempt: a job that was carried over may be in several."""
        self._gated: set[int] = set()
        """The jobs whose check runs have a deployment."""

    def routes(self) -> list[web.RouteDef]:
        repository = "/repos/{owner}/{repo}"
        attempt = f"{repository}/actions/runs/{{run}}/attempts/{{attempt}}"
        return [
            web.get("/orgs/{owner}/repos", self._list_repositories),
            web.get(repository, self._repository),
            web.get(f"{repository}/environments", self._list_environments),
            web.get(f"{repository}/check-suites/{{suite}}/check-runs", self._list_check_runs),
            web.get(f"{repository}/actions/workflows", self._list_workflows),
            web.get(f"{repository}/actions/runs", self._list_runs),
            web.get(attempt, self._run),
            web.get(f"{attempt}/jobs", self._list_jobs),
            web.get(f"{repository}/actions/jobs/{{job}}", self._job),
            web.get(f"{repository}/actions/runners", self._list_runners),
            web.get("/orgs/{owner}/actions/runners", self._list_runners),
            web.get("/orgs/{owner}/actions/runner-groups", self._list_runner_groups),
        ]

    def knows(self, payloads: Iterable[Payload]) -> None:
        """Store the runs and jobs in payloads; the last payload about each wins."""
        for payload in payloads:
            repository = payload["repository"]
            self.repositories[repository["full_name"]] = repository
            if run := payload.get("workflow_run"):
                workflow = payload["workflow"] | {"id": crc32(payload["workflow"]["name"].encode())}
                own = {"workflow_id": workflow["id"], "check_suite_id": run["id"]}
                self.runs[run["id"], run["run_attempt"]] = run | own
                self._workflows[workflow["id"]] = workflow
            elif job := payload.get("workflow_job"):
                self._jobs[job["id"]] = self._attempt_jobs[job["id"], job["run_attempt"]] = job
                if payload.get("deployment"):
                    self._gated.add(job["id"])

    async def _list_repositories(self, request: web.Request) -> web.Response:
        owned = [one for name, one in self.repositories.items() if name.startswith(f"{scope_of(request)}/")]
        return web.json_response(owned)

    async def _repository(self, request: web.Request) -> web.Response:
        return known(request, self.repositories.get(scope_of(request)))

    async def _list_environments(self, _request: web.Request) -> web.Response:
        return web.json_response({"total_count": len(self.environments), "environments": self.environments})

    async def _list_check_runs(self, request: web.Request) -> web.Response:
        suite = int(request.match_info["suite"])
        runs = {run for (run, _), payload in self.runs.items() if payload["check_suite_id"] == suite}
        checks = [
            {"id": job["id"], "name": job["name"]} | ({"deployment": {"id": 1}} if job["id"] in self._gated else {})
            for job in self._jobs.values()
            if job["run_id"] in runs
        ]
        return web.json_response({"total_count": len(checks), "check_runs": checks})

    async def _list_workflows(self, _request: web.Request) -> web.Response:
        return web.json_response({"total_count": len(self._workflows), "workflows": list(self._workflows.values())})

    async def _list_runs(self, request: web.Request) -> web.Response:
        """List the newest attempt of each run in a window of creation times, the newest run first."""
        since, _, until = request.query.get("created", "..9999").partition("..")
        newest = {run: self.runs[run, attempt] for run, attempt in sorted(self.runs)}.values()
        name = scope_of(request)
        own = [run for run in newest if run["repository"]["full_name"] == name and since <= run["created_at"] <= until]
        shown = sorted(own, key=lambda run: (run["created_at"], run["id"]), reverse=True)[: self.most_results]
        page, link = numbered_page(request, shown)
        return web.json_response({"total_count": len(own), "workflow_runs": page}, headers=link)

    async def _run(self, request: web.Request) -> web.Response:
        return known(request, self.runs.get(_attempt(request)))

    async def _list_jobs(self, request: web.Request) -> web.Response:
        attempt = _attempt(request)
        jobs = [job for job in self._attempt_jobs.values() if (job["run_id"], job["run_attempt"]) == attempt]
        return known(request, {"total_count": len(jobs), "jobs": jobs} if jobs or attempt in self.runs else None)

    async def _job(self, request: web.Request) -> web.Response:
        return known(request, self._jobs.get(int(request.match_info["job"])))

    async def _list_runners(self, request: web.Request) -> web.Response:
        return _page_of(request, "runners", self.runners)

    async def _list_runner_groups(self, request: web.Request) -> web.Response:
        return _page_of(request, "runner_groups", self.runner_groups)


def _attempt(request: web.Request) -> tuple[int, int]:
    return int(request.match_info["run"]), int(request.match_info["attempt"])


def _page_of(request: web.Request, name: str, lists: Mapping[str, list[Payload]]) -> web.Response:
    """Return a page of the list that an organisation or repository has, or 404 if it has none."""
    items = lists.get(scope_of(request))
    if items is None:
        return not_found()
    page, link = numbered_page(request, items)
    return known(request, {"total_count": len(items), name: page}, link)
