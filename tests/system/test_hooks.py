"""`promgithub hooks` on GitHub's API, with a running receiver to which GitHub sends its pings."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from processor.counting.events import COUNTED
from shared.delivery import Delivery
from tests.support import builders
from tests.support.fake_github import TOKEN, FakeGitHub
from tests.support.github import SECRET
from tests.support.processes import PROMGITHUB, Launcher, Process

GEARS = "acme/gears"
HOOK = f"{GEARS}/5000"
"""The first hook of this GitHub."""

URL = "https://ci.example.com/webhook"
GOOD = {"url": URL, "content_type": "json", "secret": SECRET}


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as server:
        yield server


async def hooks(api: FakeGitHub, *arguments: str, status: int = 0, **settings: str) -> tuple[list[str], list[str]]:
    """Run `promgithub hooks` to its end with this status; return the lines of standard output and standard error."""
    given = {"GITHUB_API_URL": api.url, "GITHUB_TOKEN": TOKEN, "WEBHOOK_SECRET": SECRET} | settings
    environment = {f"PROMGITHUB_{name}": value for name, value in given.items()} | {"PATH": os.environ["PATH"]}
    done = await asyncio.to_thread(
        subprocess.run,
        [PROMGITHUB, "hooks", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == status, done
    assert SECRET not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest_asyncio.fixture
async def receiver(launcher: Launcher, tmp_path: Path) -> Process:
    """Give a standalone promgithub that is ready."""
    process = launcher.start("standalone", "--data-dir", str(tmp_path), WEBHOOK_SECRET=SECRET)
    await process.ready()
    return process


def delivery(number: int, event: str = "push") -> Delivery:
    return Delivery(builders.guid(number), event, b"{}", 0)


async def test_a_hook_is_created_once_and_answers_a_ping_and_all_is_well(api: FakeGitHub, receiver: Process) -> None:
    url = f"{receiver.service_url}/webhook"
    (made, advice), _ = await hooks(api, "create", "repo:acme/gears", "--url", url)
    assert made.startswith(f"{HOOK}: created")
    assert advice.endswith(f"PROMGITHUB_GITHUB_HOOKS={HOOK}")
    (created,) = api.hooks.by_scope[GEARS]
    assert sorted(created["events"]) == sorted(COUNTED)
    assert created["active"]
    assert created["config"] == {"url": url, "content_type": "json", "insecure_ssl": "0", "secret": "********"}
    assert api.hooks.secrets[5000] == SECRET

    (again, _), _ = await hooks(api, "create", "repo:acme/gears", "--url", f"{url}/")
    assert again.startswith(f"{HOOK}: a hook with this URL exists")
    assert len(api.hooks.by_scope[GEARS]) == 1

    (answer,), _ = await hooks(api, "ping", HOOK)
    assert answer.startswith(f"{HOOK}: the receiver accepted the ping at ")
    assert answer.endswith("answered with 200")
    (well,), _ = await hooks(api, "check", "--url", url, GITHUB_HOOKS=HOOK)
    assert well.startswith(
        f"{HOOK}: all is well: {url}, {len(COUNTED)} events; latest deliveries: the newest one (ping"
    )


async def test_the_list_has_the_names_for_the_setting_and_hides_what_may_be_secret(api: FakeGitHub) -> None:
    api.hooks.add(GEARS, config=GOOD)
    api.hooks.add("acme", config={"url": "https://user:pass@other.example.com/x?token=abc"}, active=False)
    (_, one, other), _ = await hooks(api, "list", "repo:acme/gears", "org:acme")
    assert one.split("\t") == [HOOK, "yes", "json", "push", URL]
    assert other.split("\t") == ["acme/5001", "no", "form", "push", "https://other.example.com/x"]
    assert (await hooks(api, "list", "repo:acme/other")) == (["no hooks"], [])


async def test_the_last_of_several_secrets_is_the_one_for_github(api: FakeGitHub, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("old\nnew\n")
    api.hooks.silent = True
    await hooks(api, "create", "org:acme", "--url", URL, WEBHOOK_SECRET="", WEBHOOK_SECRET_FILE=str(file))
    assert api.hooks.secrets[5000] == "new"


async def test_everything_that_is_wrong_is_named_with_what_to_do(api: FakeGitHub) -> None:
    config = {"url": "https://elsewhere.example.com/hook", "content_type": "form", "insecure_ssl": "1"}
    api.hooks.add(GEARS, config=config, active=False, events=["push", "workflow_job"])
    api.deliveries.succeeded(delivery(1), time.time() - 50)
    api.deliveries.failed(delivery(2), 1_780_000_000, 503)
    api.deliveries.failed(delivery(3, "ping"), 1_780_000_005, 401)
    found, _ = await hooks(api, "check", HOOK, "--url", URL, status=1)
    missing = ", ".join(sorted(COUNTED - {"push", "workflow_job"}))
    begins = [
        f"events missing: {missing}; add them",
        "content type form",
        "inactive, so GitHub sends nothing; activate it",
        "SSL verification is off",
        f"the payload URL is https://elsewhere.example.com/hook, not {URL}; change it",
        "no secret, so GitHub does not sign",
        "2 of the last 3 deliveries failed, the newest one: ping at 2026-05-28T20:26:45Z, answered with 401",
        f"its settings are at {api.url}/acme/gears/settings/hooks/5000",
    ]
    assert len(found) == len(begins)
    for line, begin in zip(found, begins, strict=True):
        assert line.startswith(f"{HOOK}: {begin}"), line


async def test_a_secret_that_differs_is_known_by_the_answer(api: FakeGitHub, receiver: Process) -> None:
    good = {"config": GOOD | {"url": f"{receiver.service_url}/webhook", "secret": "another"}, "events": [*COUNTED]}
    api.hooks.add(GEARS, **good)
    (answer,), _ = await hooks(api, "ping", HOOK, status=1)
    assert ' was answered with 401 ({"error":' in answer
    assert answer.endswith("; enter the secret of PROMGITHUB_WEBHOOK_SECRET in GitHub")
    found, _ = await hooks(api, "check", HOOK, status=1)
    assert found[0].startswith(f"{HOOK}: the secret differs: the receiver answered 401 to the newest delivery (ping at")
    api.deliveries.attempts.clear()  # after some days GitHub still has the answer
    found, _ = await hooks(api, "check", HOOK, status=1)
    assert found[0].startswith(f"{HOOK}: the secret differs: the receiver answered 401 to the last delivery")


async def test_a_ping_that_nobody_answers_ends_after_the_wait(api: FakeGitHub) -> None:
    api.hooks.add(GEARS, config=GOOD)
    api.deliveries.succeeded(delivery(1, "ping"), time.time())  # an earlier one
    api.hooks.silent = True
    _, (error,) = await hooks(api, "ping", HOOK, "--wait", "1.5", status=1)
    assert error.startswith(f"promgithub: {HOOK}: GitHub lists no answer to the ping after 1.5 s")
    api.hooks.silent = False
    api.hooks.by_scope[GEARS][0]["config"]["url"] = "http://127.0.0.1:1/webhook"
    (answer,), _ = await hooks(api, "ping", HOOK, status=1)
    assert "answered with 502 (failed to connect to host); check that the host of the payload URL is public" in answer


@pytest.mark.parametrize(
    ("arguments", "permission"),
    [
        (("list", "repo:acme/gears"), "the repository permission Webhooks: read"),
        (("create", "org:acme", "--url", URL), "the organisation permission Webhooks: read"),
        (("check", HOOK), "the repository permission Webhooks: read"),
    ],
)
async def test_a_missing_permission_is_named(api: FakeGitHub, arguments: tuple[str, ...], permission: str) -> None:
    api.hooks.add(GEARS, config=GOOD)
    api.forbidden |= {"/hooks", "/5000"}
    _, (error,) = await hooks(api, *arguments, status=1)
    assert f"needs {permission}" in error


async def test_a_wrong_name_url_or_setting_is_said_before_github_is_asked(api: FakeGitHub) -> None:
    for arguments, said in {
        ("list", "acme/gears"): "takes org:ORGANISATION or repo:OWNER/REPOSITORY",
        ("create", "org:acme", "--url", "https://ci.example.com"): "takes the whole payload URL",
        ("check", "gears"): "gears: not a hook; takes",
        ("check",): "PROMGITHUB_GITHUB_HOOKS: not set",
        ("ping", "app"): "app: GitHub sends no ping for an App",
    }.items():
        _, errors = await hooks(api, *arguments, status=2)
        assert said in " ".join(" ".join(errors).replace("│", " ").split())
    assert api.asked == []


async def test_one_hook_that_is_gone_does_not_hide_what_is_wrong_with_the_next(api: FakeGitHub) -> None:
    api.hooks.add(GEARS, config=GOOD)
    found, (error,) = await hooks(api, "check", f"{GEARS}/7", HOOK, status=1)
    assert error.startswith("promgithub: /repos/acme/gears/hooks/7: GitHub answers 404")
    assert found[0].startswith(f"{HOOK}: events missing")
