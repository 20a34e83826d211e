"""`python -m tests.support.pictures DIRECTORY`: take the pictures of the status page, from a simulated history."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.browser import chromium, open_tab
from tests.support.github import SECRET
from tests.support.processes import PROMGITHUB, Launcher, Process

PICTURES: Mapping[str, Mapping[str, Any]] = {
    "status": {"viewport": {"width": 1280, "height": 1000}},
    "status-dark": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "dark"},
    "status-phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
}
"""The options of the browser for each picture."""

SIMULATE_SECONDS = 120.0


async def take(directory: Path) -> None:
    """Start standalone, simulate, and write the pictures into a directory that exists."""
    with tempfile.TemporaryDirectory(prefix="promgithub-pictures-") as working:
        launcher = Launcher(Path(working))
        try:
            standalone = launcher.start("standalone", WEBHOOK_SECRET=SECRET)
            await standalone.ready()
            await asyncio.to_thread(_simulate, standalone)
            async with chromium() as browser:
                for name, options in PICTURES.items():
                    tab = await open_tab(browser, f"{standalone.admin_url}/?limit=6", **options)
                    await tab.page.screenshot(path=directory / f"{name}.png")
        finally:
            launcher.close()


def _simulate(standalone: Process) -> None:
    command = [PROMGITHUB, "simulate", standalone.service_url, "--metrics", standalone.admin_url]
    command += ["--deliveries", "1500", "--rate", "400", "--seed", "7"]
    environment = {"PROMGITHUB_WEBHOOK_SECRET": SECRET}
    subprocess.run(command, env=environment, check=True, timeout=SIMULATE_SECONDS, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1])))
