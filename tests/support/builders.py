"""Payloads and deliveries in GitHub's shape: every field here is one that GitHub sends, with GitHub's types.

A test states only what matters to it. Moments are given in seconds after `START`, so that histories read easily.
"""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.delivery import Delivery

START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
"""The database's clock decides what is old, so that histories must have happened lately."""

REPOSITORY: dict[str, Any] = {
    "id": 186853002,
    "node_id": "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=",
    "name": "gears",
    "full_name": "acme/gears",
    "private": False,
    "owner": {"login": "acme", "id": 21031067, "node_id": "MDEyOk9yZ2FuaXphdGlvbjIxMDMxMDY3", "type": "Organization"},
    "html_url": "https://github.com/acme/gears",
    "fork": False,
    "default_branch": "main",
}

FORK: dict[str, Any] = REPOSITORY | {"id": 7, "full_name": "stranger/gears", "fork": True}
"""A fork of `REPOSITORY`, as the `head_repository` of a run."""

MERGE_QUEUE_BRANCH = "gh-readonly-queue/main/pr-7-3484a3fb816e0859fd6e1cea078d76385ff50625"
"""A branch that a merge queue has created."""

SENDER: dict[str, Any] = {"login": "octocat", "id": 583231, "node_id": "MDQ6VXNlcjU4MzIzMQ==", "type": "User"}

Payload = dict[str, Any]


def moment(seconds: float | None) -> str | None:
    """Return the ISO 8601 text, in whole seconds, of `START` plus so many seconds; None stays None."""
    return None if seconds is None else (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def repository(full_name: str = "acme/gears", **fields: Any) -> Payload:
    """Return a repository object."""
    return REPOSITORY | {"full_name": full_name, "name": full_name.rpartition("/")[2]} | fields


def run(
    run_id: int = 30_433_642,
    *,
    attempt: int = 1,
    status: str = "queued",
    conclusion: str | None = None,
    action: str | None = None,
    created: float = 0,
    began: float | None = None,
    updated: float | None = None,
    branch: str | None = "main",
    workflow: str = "build",
    repo: Payload | None = None,
    **fields: Any,
) -> Payload:
    """Return a `workflow_run` payload. `action` follows from the status unless given; `began` is `run_started_at`."""
    own = repo or repository()
    actions = {"in_progress": "in_progress", "completed": "completed"}
    body: Payload = {
        "id": run_id,
        "name": "",
        "node_id": "WFR_kwLOCy3Gms8AAAAB",
        "head_branch": branch,
        "head_sha": "3484a3fb816e0859fd6e1cea078d76385ff50625",
        "path": f".github/workflows/{workflow}.yml",
        "display_title": "Turn the gears",
        "run_number": 163,
        "event": "push",
        "status": status,
        "conclusion": conclusion,
        "workflow_id": 2823525,
        "check_suite_id": 1291536064,
        "pull_requests": [],
        "created_at": moment(created),
        "updated_at": moment(created if updated is None else updated),
        "run_attempt": attempt,
        "run_started_at": moment(created if began is None else began),
        "previous_attempt_url": None,
        "actor": SENDER,
        "triggering_actor": SENDER,
        "head_repository": own,
        "repository": own,
    }
    return {
        "action": action or actions.get(status, "requested"),
        "workflow_run": body | fields,
        "workflow": {
            "id": 2823525,
            "name": workflow,
            "path": f".github/workflows/{workflow}.yml",
            "state": "active",
        },
        "repository": own,
        "sender": SENDER,
    }


def job(
    job_id: int = 289_782_451,
    *,
    run_id: int = 30_433_642,
    attempt: int = 1,
    status: str = "queued",
    conclusion: str | None = None,
    action: str | None = None,
    created: float = 0,
    started: float | None = None,
    completed: float | None = None,
    branch: str | None = "main",
    workflow: str | None = "build",
    name: str = "test",
    runner: int | None = None,
    gate: float | None = None,
    repo: Payload | None = None,
    **fields: Any,
) -> Payload:
    """Return a `workflow_job` payload.

    `runner` is the runner's id (None: not assigned); `gate` is when the deployment of a gated job was last updated.
    GitHub puts the deployment into every payload of a gated job, also while it runs and when it completes.
    Until a job runs, GitHub repeats `created_at` as `started_at`, and so does this.
    """
    body: Payload = {
        "id": job_id,
        "run_id": run_id,
        "workflow_name": workflow,
        "head_branch": branch,
        "run_url": f"https://api.github.com/repos/acme/gears/actions/runs/{run_id}",
        "run_attempt": attempt,
        "node_id": "CR_kwDOCy3Gms8AAAAB",
        "head_sha": "3484a3fb816e0859fd6e1cea078d76385ff50625",
        "status": status,
        "conclusion": conclusion,
        "created_at": moment(created),
        "started_at": moment(created if started is None else started),
        "completed_at": moment(completed),
        "name": name,
        "steps": [{"name": "Set up job", "status": status, "conclusion": conclusion, "number": 1}] if runner else [],
        "labels": ["ubuntu-latest"],
        "runner_id": runner,
        "runner_name": f"GitHub Actions {runner}" if runner else None,
        "runner_group_id": 2 if runner else None,
        "runner_group_name": "GitHub Actions" if runner else None,
    }
    payload: Payload = {
        "action": action or status,
        "workflow_job": body | fields,
        "repository": repo or repository(),
        "sender": SENDER,
    }
    if gate is not None:
        payload["deployment"] = {"id": 875096709, "environment": "production", "updated_at": moment(gate)}
    return payload


def push(commits: int = 1, *, ref: str = "refs/heads/main", repo: Payload | None = None) -> Payload:
    """Return a `push` payload. In push events, and only there, a repository's times are Unix seconds."""
    times = {"created_at": 1557933565, "pushed_at": int(START.timestamp())}
    commit = {"id": "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "distinct": True, "message": "Turn the gears"}
    return {
        "ref": ref,
        "before": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "after": "3484a3fb816e0859fd6e1cea078d76385ff50625",
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "commits": [commit] * commits,
        "head_commit": commit if commits else None,
        "repository": (repo or repository()) | times,
        "pusher": {"name": "octocat", "email": "octocat@github.com"},
        "sender": SENDER,
    }


def pull_request(
    action: str = "opened", *, merged: bool = False, base: str = "main", repo: Payload | None = None
) -> Payload:
    """Return a `pull_request` payload."""
    return {
        "action": action,
        "number": 2,
        "pull_request": {
            "id": 279147437,
            "number": 2,
            "state": "closed" if action == "closed" else "open",
            "title": "Turn the gears",
            "merged": merged,
            "base": {"label": f"acme:{base}", "ref": base, "sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e"},
        },
        "repository": repo or repository(),
        "sender": SENDER,
    }


def runner(number: int, *labels: str, status: str = "online", busy: bool = False, group: int | None = None) -> Payload:
    """Return a runner as the REST API lists it; those of a repository have no `group`."""
    listed = [
        {"id": place, "name": label, "type": "read-only" if label == "self-hosted" else "custom"}
        for place, label in enumerate(labels, 1)
    ]
    made = {"id": number, "name": f"runner-{number}", "os": "linux", "status": status, "busy": busy, "labels": listed}
    return made if group is None else made | {"runner_group_id": group}


def guid(seconds: float = 0, *, serial: int = 0) -> str:
    """Return a delivery ID as GitHub makes them: a version 1 UUID whose time is `START` plus so many seconds."""
    ticks = int((START.timestamp() + seconds) * 10_000_000) + 0x01B21DD213814000
    low, mid, high = ticks & 0xFFFFFFFF, (ticks >> 32) & 0xFFFF, (ticks >> 48) & 0x0FFF
    fields = (low, mid, high, 0x80 | (serial >> 40) & 0x3F, (serial >> 32) & 0xFF, serial & 0xFFFFFFFF)
    return str(uuid.UUID(fields=fields, version=1))


def event_of(payload: Payload) -> str:
    """Return the event that a payload of this module belongs to."""
    return next((e for e in ("workflow_run", "workflow_job", "pull_request") if e in payload), "push")


def delivery(
    payload: Payload, delivery_id: str | None = None, *, event: str | None = None, host: str | None = None
) -> Delivery:
    """Return a delivery of a payload; its ID is random unless given. `host` is that of an Enterprise Server."""
    return Delivery(
        id=delivery_id or str(uuid.uuid4()),
        event=event_of(payload) if event is None else event,
        body=json.dumps(payload).encode(),
        received_at=int(START.timestamp() * 1000),
        hook_id="292430182",
        target_type="repository",
        target_id="186853002",
        host=host,
    )
