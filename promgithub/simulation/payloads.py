"""Payloads in GitHub's shape and size (7 to 22 kB), made up but for the fields that tell something.

Fields and their types are those of GitHub's documentation and published examples
(https://docs.github.com/en/webhooks/webhook-events-and-payloads).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Payload = dict[str, Any]

API = "https://api.github.com"
SHA = "3484a3fb816e0859fd6e1cea078d76385ff50625"

_REPOSITORY_LINKS = (
    *("archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare", "contents"),
    *("contributors", "deployments", "downloads", "events", "forks", "git_commits", "git_refs", "git_tags", "hooks"),
    *("issue_comment", "issue_events", "issues", "keys", "labels", "languages", "merges", "milestones"),
    *("notifications", "pulls", "releases", "stargazers", "statuses", "subscribers", "subscription", "tags", "teams"),
    "trees",
)
_USER_LINKS = (
    *("followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events"),
    "received_events",
)
_STEPS = ("Set up job", "Checkout", "Set up Python", "Install", "Lint", "Test", "Upload", "Post Checkout", "Done")


def moment(seconds: float) -> str:
    """Return Unix seconds as GitHub writes them: ISO 8601 in whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository, by its number and name."""

    number: int
    full_name: str
    fork: bool = False

    def payload(self) -> Payload:
        """Return the repository object that is part of every event."""
        url = f"{API}/repos/{self.full_name}"
        return {
            "id": self.number,
            "node_id": f"R_kgDO{self.number:010d}",
            "name": self.full_name.rpartition("/")[2],
            "full_name": self.full_name,
            "private": False,
            "owner": user(self.full_name.partition("/")[0]),
            "html_url": f"https://github.com/{self.full_name}",
            "description": "Made up to exercise promgithub",
            "fork": self.fork,
            "url": url,
            **{f"{link}_url": f"{url}/{link}" for link in _REPOSITORY_LINKS},
            **_links_of(self.full_name),
            "created_at": "2019-05-15T15:19:25Z",
            "updated_at": "2026-10-02T08:11:54Z",
            "pushed_at": "2026-10-02T08:11:50Z",
            **dict.fromkeys(("size", "stargazers_count", "watchers_count", "forks_count", "forks", "watchers"), 7),
            **dict.fromkeys(("open_issues_count", "open_issues"), 3),
            **dict.fromkeys(("has_issues", "has_projects", "has_downloads", "has_wiki", "allow_forking"), True),
            **dict.fromkeys(("has_pages", "has_discussions", "archived", "disabled", "is_template"), False),
            **dict.fromkeys(("homepage", "mirror_url", "license"), None),
            "web_commit_signoff_required": False,
            "default_branch": "main",
            "language": "Python",
            "topics": [],
            "visibility": "public",
            "custom_properties": {},
        }


def _links_of(full_name: str) -> Payload:
    return {
        "git_url": f"git://github.com/{full_name}.git",
        "ssh_url": f"git@github.com:{full_name}.git",
        "clone_url": f"https://github.com/{full_name}.git",
        "svn_url": f"https://github.com/{full_name}",
    }


def organization(login: str) -> Payload:
    """Return an organization object."""
    url = f"{API}/orgs/{login}"
    links = ("repos", "events", "hooks", "issues", "members", "public_members")
    return {
        "login": login,
        "id": 21031067,
        "node_id": "MDEyOk9yZ2FuaXphdGlvbjIxMDMxMDY3",
        "url": url,
        **{f"{link}_url": f"{url}/{link}" for link in links},
        "avatar_url": "https://avatars.githubusercontent.com/u/21031067?v=4",
        "description": "Gears and more",
    }


def user(login: str) -> Payload:
    """Return a user object."""
    url = f"{API}/users/{login}"
    return {
        "login": login,
        "id": 583231,
        "node_id": "MDQ6VXNlcjU4MzIzMQ==",
        "avatar_url": "https://avatars.githubusercontent.com/u/583231?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"https://github.com/{login}",
        **{f"{link}_url": f"{url}/{link}" for link in _USER_LINKS},
        "type": "User",
        "site_admin": False,
    }


def run(repo: Repo, head: Repo, workflow: str, action: str, fields: Mapping[str, Any]) -> Payload:
    """Return a `workflow_run` payload; `fields` are those of the run that tell something."""
    own, sender = repo.payload(), user("octocat")
    path = f".github/workflows/{workflow}.yml"
    url = f"{API}/repos/{repo.full_name}/actions/runs/{fields['id']}"
    body: Payload = {
        "name": workflow,
        "node_id": "WFR_kwLOCy3Gms8AAAAB",
        "head_sha": SHA,
        "path": path,
        "display_title": "Turn the gears",
        "run_number": 163,
        "event": "push",
        "workflow_id": 2823525,
        "check_suite_id": 1291536064,
        "pull_requests": [],
        "url": url,
        **{f"{link}_url": f"{url}/{link}" for link in ("jobs", "logs", "artifacts", "cancel", "rerun")},
        "previous_attempt_url": None,
        "actor": sender,
        "triggering_actor": sender,
        "head_commit": {"id": SHA, "tree_id": SHA, "message": "Turn the gears", "timestamp": fields["created_at"]},
        "repository": own,
        "head_repository": head.payload(),
    }
    return {
        "action": action,
        "workflow_run": body | dict(fields),
        "workflow": {"id": 2823525, "name": workflow, "path": path, "state": "active", "node_id": "W_kwDOCy3Gms4AKxWl"},
        "repository": own,
        "organization": organization("acme"),
        "sender": sender,
    }


def job(repo: Repo, fields: Mapping[str, Any], gated_at: float | None) -> Payload:
    """Return a `workflow_job` payload; `gated_at` is when its deployment was updated, in Unix seconds."""
    url = f"{API}/repos/{repo.full_name}/actions/jobs/{fields['id']}"
    on_runner = fields["runner_id"] is not None
    steps = [
        {"name": step, "status": fields["status"], "conclusion": fields["conclusion"], "number": place}
        | {"started_at": fields["started_at"], "completed_at": fields["completed_at"]}
        for place, step in enumerate(_STEPS if on_runner else (), 1)
    ]
    body: Payload = {
        "node_id": "CR_kwDOCy3Gms8AAAAB",
        "head_sha": SHA,
        "url": url,
        "run_url": f"{API}/repos/{repo.full_name}/actions/runs/{fields['run_id']}",
        "html_url": f"https://github.com/{repo.full_name}/actions/runs/{fields['run_id']}/job/{fields['id']}",
        "check_run_url": f"{API}/repos/{repo.full_name}/check-runs/{fields['id']}",
        "steps": steps,
        "runner_group_id": 2 if on_runner else None,
        "runner_group_name": "GitHub Actions" if on_runner else None,
        "runner_name": f"GitHub Actions {fields['runner_id']}" if on_runner else None,
    }
    payload: Payload = {
        "action": fields["status"],
        "workflow_job": body | dict(fields),
        "repository": repo.payload(),
        "organization": organization("acme"),
        "sender": user("octocat"),
    }
    if gated_at is not None:
        payload["deployment"] = {"id": 875096709, "environment": "production", "updated_at": moment(gated_at)}
    return payload


def push(repo: Repo, commits: int, at: float) -> Payload:
    """Return a `push` payload with so many commits."""
    author = {"name": "octocat", "email": "octocat@github.com", "username": "octocat"}
    commit = {"id": SHA, "tree_id": SHA, "distinct": True, "message": "Turn the gears", "timestamp": moment(at)}
    listed = [commit | {"author": author, "committer": author, "added": [], "removed": [], "modified": ["gears.py"]}]
    return {
        "ref": "refs/heads/main",
        "before": SHA,
        "after": SHA[::-1],
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.com/{repo.full_name}/compare/{SHA[:12]}...{SHA[:-13:-1]}",
        "commits": listed * commits,
        "head_commit": listed[0],
        "repository": repo.payload() | {"created_at": 1557933565, "pushed_at": int(at)},
        "pusher": {"name": "octocat", "email": "octocat@github.com"},
        "organization": organization("acme"),
        "sender": user("octocat"),
    }


def pull_request(repo: Repo, action: str, *, merged: bool, base: str) -> Payload:
    """Return a `pull_request` payload."""
    own, author = repo.payload(), user("octocat")
    return {
        "action": action,
        "number": 2,
        "pull_request": {
            "id": 279147437,
            "url": f"{API}/repos/{repo.full_name}/pulls/2",
            "number": 2,
            "state": "closed" if action == "closed" else "open",
            "title": "Turn the gears",
            "user": author,
            "body": "Made up.",
            "merged": merged,
            "head": {"label": "acme:change", "ref": "change", "sha": SHA, "user": author, "repo": own},
            "base": {"label": f"acme:{base}", "ref": base, "sha": SHA[::-1], "user": author, "repo": own},
        },
        "repository": own,
        "organization": organization("acme"),
        "sender": author,
    }
