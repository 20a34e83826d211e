"""The first commands that a newcomer runs."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from tests.support.browser import chromium, open_tab
from tests.support.github import until
from tests.support.servers.ports import free_port

QUICKSTART = [sys.executable, "-m", "promgithub.quickstart"]


async def test_the_demonstration_proves_every_figure_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    done = await asyncio.to_thread(
        subprocess.run, [*QUICKSTART, "demo"], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "figures equal the truth." in done.stdout
    assert "promgithub_workflow_status_total{" in done.stdout
    assert os.listdir(tmp_path) == []


async def ready(port: int) -> bool | None:
    try:
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200 or None
    except aiohttp.ClientConnectionError:
        return None


async def test_run_makes_up_a_secret_once_and_says_what_to_do_next(tmp_path: Path) -> None:
    service_port, admin_port = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PROMGITHUB_SERVICE_PORT": str(service_port),
        "PROMGITHUB_ADMIN_PORT": str(admin_port),
    }
    shown = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            *QUICKSTART,
            "run",
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        lines = [(await asyncio.wait_for(process.stdout.readline(), 20)).decode() for _ in range(13)]
        await until(lambda: ready(admin_port), 60)
        for port in (service_port, admin_port):  # a listener on all addresses would answer here too
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.2", port)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 26) == 0
        shown.append("".join(lines))
    secret = (tmp_path / "data" / "webhook-secret").read_text().strip()
    assert len(secret) > 20
    assert (tmp_path / "data" / "webhook-secret").stat().st_mode & 0o077 == 0
    for text in shown:
        assert f"Secret        {secret}\n" in text
        assert f"http://localhost:{service_port}/webhook" in text
        assert f"What is queued, running and failing:  http://localhost:{admin_port}\n" in text
        assert f"http://localhost:{admin_port}/metrics" in text
        for command in ("connect", "hooks create", "simulate"):
            assert f"promgithub {command} " in text


async def test_the_page_shows_simulated_jobs_within_a_minute_of_the_start(tmp_path: Path) -> None:
    service_port, admin_port = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PROMGITHUB_SERVICE_PORT": str(service_port),
        "PROMGITHUB_ADMIN_PORT": str(admin_port),
    }
    async with asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            *QUICKSTART, "run", cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            while " simulate " not in (line := (await process.stdout.readline()).decode()):
                assert line, "it ended before it said how to simulate"
            simulate = [*line.split(), "--deliveries", "300"]
            simulating = await asyncio.create_subprocess_exec(
                *simulate, cwd=tmp_path, env=environment, stdout=asyncio.subprocess.DEVNULL
            )
            assert await simulating.wait() == 0
            async with chromium() as browser:
                tab = await open_tab(browser, f"http://localhost:{admin_port}")
                await expect(tab.page.locator("td[data-name=Job]").first).to_contain_text("test")
        finally:
            process.terminate()
            assert await process.wait() == 0


async def test_a_data_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    done = await asyncio.to_thread(
        subprocess.run,
        [*QUICKSTART, "run"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line.startswith("promgithub: data: cannot be used")) == (2, True)
