"""Payloads with GitHub's structure and size (7 to 22 kB). All fields that promgithub does not use are constant.

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

_REPOSITORY_LINKS = {
    "archive": "{archive_format}{/ref}",
    "assignees": "assignees{/user}",
    "blobs": "git/blobs{/sha}",
    "branches": "branches{/branch}",
    "collaborators": "collaborators{/collaborator}",
    "comments": "comments{/number}",
    "commits": "commits{/sha}",
    "compare": "compare/{base}...{head}",
    "contents": "contents/{+path}",
    "contributors": "contributors",
    "deployments": "deployments",
    "downloads": "downloads",
    "events": "events",
    "forks": "forks",
    "git_commits": "git/commits{/sha}",
    "git_refs": "git/refs{/sha}",
    "git_tags": "git/tags{/sha}",
    "hooks": "hooks",
    "issue_comment": "issues/comments{/number}",
    "issue_events": "issues/events{/number}",
    "issues": "issues{/number}",
    "keys": "keys{/key_id}",
    "labels": "labels{/name}",
    "languages": "languages",
    "merges": "merges",
    "milestones": "milestones{/number}",
    "notifications": "notifications{?since,all,participating}",
    "pulls": "pulls{/number}",
    "releases": "releases{/id}",
    "stargazers": "stargazers",
    "statuses": "statuses/{sha}",
    "subscribers": "subscribers",
    "subscription": "subscription",
    "tags": "tags",
    "teams": "teams",
    "trees": "git/trees{/sha}",
}
_USER_LINKS = (
    *("followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events"),
    "received_events",
)
_STEPS = ("Set up job", "Checkout", "Set up Python", "Install", "Lint", "Test", "Upload", "Post Checkout", "Done")


def moment(seconds: float) -> str:
    """Format Unix seconds like GitHub: ISO 8601 in whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository, by its number and name."""

    number: int
    full_name: str
    fork: bool = False
    private: bool = False

    def brief(self) -> Payload:
        """Return the repository object that is part of a run."""
        url = f"{API}/repos/{self.full_name}"
        return {
            "id": self.number,
            "node_id": f"R_kgDO{self.number:010d}",
            "name": self.full_name.rpartition("/")[2],
            "full_name": self.full_name,
            "private": self.private,
            "owner": user(self.full_name.partition("/")[0]),
            "html_url": f"https://github.com/{self.full_name}",
            "description": "Made up to exercise promgithub: gears that turn, and what turns them",
            "fork": self.fork,
            "url": url,
            **{f"{link}_url": f"{url}/{path}" for link, path in _REPOSITORY_LINKS.items()},
        }

    def payload(self) -> Payload:
        """Return the repository object that is part of every event."""
        return self.brief() | {
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
            "topics": ["ci", "gears", "machinery", "metrics", "prometheus"],
            "visibility": "private" if self.private else "public",
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
    """Return a `workflow_run` payload; `fields` has the fields of the run that vary."""
    sender = user("octocat")
    path = f".github/workflows/{workflow}.yml"
    page = f"https://github.com/{repo.full_name}"
    url = f"{API}/repos/{repo.full_name}/actions/runs/{fields['id']}"
    workflow_url = f"{API}/repos/{repo.full_name}/actions/workflows/2823525"
    author = {"name": "octocat", "email": "octocat@github.com"}
    commit = {"id": SHA, "tree_id": SHA, "message": "Turn the gears", "timestamp": fields["created_at"]}
    body: Payload = {
        "name": workflow,
        "node_id": "WFR_kwLOCy3Gms8AAAAB",
        "head_sha": SHA,
        "path": path,
        "display_title": "Turn the gears",
        "run_number": 163,
        "event": "push",
        "workflow_id": 2823525,
        "workflow_url": workflow_url,
        "check_suite_id": 1291536064,
        "check_suite_node_id": "CS_kwDOCy3Gms8AAAAB",
        "check_suite_url": f"{API}/repos/{repo.full_name}/check-suites/1291536064",
        "pull_requests": [],
        "url": url,
        "html_url": f"{page}/actions/runs/{fields['id']}",
        **{f"{link}_url": f"{url}/{link}" for link in ("jobs", "logs", "artifacts", "cancel", "rerun")},
        "previous_attempt_url": None,
        "actor": sender,
        "triggering_actor": sender,
        "head_commit": commit | {"author": author, "committer": author},
        "repository": repo.brief(),
        "head_repository": head.brief(),
    }
    return {
        "action": action,
        "workflow_run": body | dict(fields),
        "workflow": {
            "id": 2823525,
            "node_id": "W_kwDOCy3Gms4AKxWl",
            "name": workflow,
            "path": path,
            "state": "active",
            "created_at": "2020-10-02T12:42:30.000Z",
            "updated_at": "2026-10-03T19:24:48.000Z",
            "url": workflow_url,
            "html_url": f"{page}/blob/main/{path}",
            "badge_url": f"{page}/workflows/{workflow}/badge.svg",
        },
        "repository": repo.payload(),
        "organization": organization("acme"),
        "sender": sender,
    }


def job(repo: Repo, fields: Mapping[str, Any], deployed: tuple[float, float] | None) -> Payload:
    """Return a `workflow_job` payload.

    `deployed` is when the deployment of a job with an environment was created and updated, in Unix seconds.
    """
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
        "runner_name": f"GitHub Actions {fields['runner_id']}" if on_runner else None,
    }
    payload: Payload = {
        "action": fields["status"],
        "workflow_job": body | dict(fields),
        "repository": repo.payload(),
        "organization": organization("acme"),
        "sender": user("octocat"),
    }
    if deployed is not None:
        payload["deployment"] = _deployment(repo, *map(moment, deployed))
    return payload


def _deployment(repo: Repo, created_at: str, updated_at: str) -> Payload:
    url = f"{API}/repos/{repo.full_name}/deployments/875096709"
    return {
        "url": url,
        "id": 875096709,
        "node_id": "DE_kwDOI0B2Tc40KOqF",
        "task": "deploy",
        "original_environment": "production",
        "environment": "production",
        "description": None,
        "created_at": created_at,
        "updated_at": updated_at,
        "statuses_url": f"{url}/statuses",
        "repository_url": f"{API}/repos/{repo.full_name}",
        "creator": user("octocat"),
        "sha": SHA,
        "ref": "main",
        "payload": {},
        "transient_environment": False,
        "production_environment": True,
        "performed_via_github_app": None,
    }


def push(repo: Repo, branch: str, commits: int, at: float) -> Payload:
    """Return a `push` payload with `commits` commits."""
    author = {"name": "octocat", "email": "octocat@github.com", "username": "octocat"}
    commit = {"id": SHA, "tree_id": SHA, "distinct": True, "message": "Turn the gears", "timestamp": moment(at)}
    listed = [commit | {"author": author, "committer": author, "added": [], "removed": [], "modified": ["gears.py"]}]
    return {
        "ref": f"refs/heads/{branch}",
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


def pull_request(repo: Repo, action: str, *, merged: bool, base: str, at: float) -> Payload:
    """Return a `pull_request` payload."""
    own, author = repo.payload(), user("octocat")
    url, page = f"{API}/repos/{repo.full_name}/pulls/2", f"https://github.com/{repo.full_name}/pull/2"
    issue = f"{API}/repos/{repo.full_name}/issues/2"
    links = {
        "html": page,
        "issue": issue,
        "comments": f"{issue}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{API}/repos/{repo.full_name}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": f"{API}/repos/{repo.full_name}/statuses/{SHA}",
    }
    closed_at = moment(at) if action == "closed" else None
    return {
        "action": action,
        "number": 2,
        "pull_request": {
            "id": 279147437,
            "node_id": "PR_kwDOCy3Gms4QpSfN",
            "url": url,
            **{f"{name}_url": link for name, link in links.items()},
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "_links": {"self": {"href": url}} | {name: {"href": link} for name, link in links.items()},
            "number": 2,
            "state": "closed" if action == "closed" else "open",
            "locked": False,
            "title": "Turn the gears",
            "user": author,
            "body": "Made up.",
            "created_at": moment(at - 60),
            "updated_at": moment(at),
            "closed_at": closed_at,
            "merged_at": closed_at if merged else None,
            "merge_commit_sha": SHA if merged else None,
            **dict.fromkeys(("assignee", "milestone", "auto_merge", "active_lock_reason", "rebaseable")),
            **{name: [] for name in ("assignees", "requested_reviewers", "requested_teams", "labels")},
            "author_association": "MEMBER",
            "draft": False,
            "merged": merged,
            "mergeable": None,
            "mergeable_state": "unknown",
            "merged_by": author if merged else None,
            "maintainer_can_modify": False,
            **dict.fromkeys(("comments", "review_comments"), 0),
            **dict.fromkeys(("commits", "additions", "deletions", "changed_files"), 1),
            "head": {"label": "acme:change", "ref": "change", "sha": SHA, "user": author, "repo": own},
            "base": {"label": f"acme:{base}", "ref": base, "sha": SHA[::-1], "user": author, "repo": own},
        },
        "repository": own,
        "organization": organization("acme"),
        "sender": author,
    }


def ping() -> Payload:
    """Return a `ping` payload, which GitHub sends when a webhook is created."""
    url = f"{API}/orgs/acme/hooks/292430182"
    return {
        "zen": "Keep it logically awesome.",
        "hook_id": 292430182,
        "hook": {
            "type": "Organization",
            "id": 292430182,
            "name": "web",
            "active": True,
            "events": ["pull_request", "push", "workflow_job", "workflow_run"],
            "url": url,
            "ping_url": f"{url}/pings",
        },
        "organization": organization("acme"),
        "sender": user("octocat"),
    }
