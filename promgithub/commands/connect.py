"""`promgithub connect`: register a GitHub App that sends its deliveries to promgithub."""

import asyncio
import re
import secrets
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry

from processor.counting.events import COUNTED
from processor.recovery.app_manifest import NewApp, app_name, apps_url, conversion, manifest
from processor.recovery.client import GitHub, understood
from processor.recovery.recovery_metrics import RecoveryMetrics
from promgithub.commands.app_files import AppFiles
from promgithub.commands.connect_page import ConnectPage
from promgithub.commands.payload_urls import parse_payload_url
from promgithub.commands.running import load_or_exit, run
from promgithub.commands.tables import printable
from shared import logs
from shared.errors import PromgithubError, SetupError
from shared.hosts import web_url
from shared.settings import ProcessorSettings, format_duration
from shared.waiting import unless

WITHIN = timedelta(minutes=15)
"""How long the page waits for GitHub to create the App."""

CONVERSION_SECONDS = 60.0
"""Timeout of the exchange of GitHub's code for the App, with all retries, in seconds."""

_ORGANISATION = re.compile(r"[\w.-]+", re.ASCII)


def command(
    url: Annotated[
        str,
        typer.Option("--url", metavar="URL", help="Payload URL, such as `https://ci.example.com/webhook`."),
    ],
    org: Annotated[
        str | None, typer.Option(metavar="NAME", help="Organisation that will own the App. By default your account.")
    ] = None,
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Directory for the App's key, its secret, and the settings.")
    ] = Path("promgithub-app"),
) -> None:
    """Register a GitHub App for promgithub.

    GitHub sends the deliveries of the App to URL.

    Prints the address of a page on this machine. Its button leads to GitHub, which creates the App.

    The App's ID, key and webhook secret are then stored in DIR, for their owner only.
    """
    payload_url = parse_payload_url(url)
    if org is not None and not _ORGANISATION.fullmatch(org):
        raise typer.BadParameter(f"got {org!r}, takes the name of an organisation", param_hint="--org")
    settings = load_or_exit(ProcessorSettings)
    logs.configure(settings.log_level, settings.log_format)

    async def main(stop: asyncio.Event) -> None:
        files = AppFiles(directory)
        files.check()
        app = await _connected(settings, payload_url, org, files, stop)
        typer.echo(_next_steps(app, files.environment))

    run(main)


async def _connected(
    settings: ProcessorSettings, payload_url: str, org: str | None, files: AppFiles, stop: asyncio.Event
) -> NewApp:
    """Serve the pages until the App is stored. Raises `PromgithubError`."""
    api_url = settings.github_api_url.get_secret_value()
    web = web_url(api_url)
    changed = settings.github_api_url != ProcessorSettings.model_fields["github_api_url"].default
    name = app_name(org or secrets.token_hex(3))
    async with GitHub(settings, RecoveryMetrics(CollectorRegistry())) as github:

        async def register(code: str) -> NewApp:
            try:
                async with asyncio.timeout(CONVERSION_SECONDS):
                    app = understood(await github.post(conversion(code)), NewApp)
                files.write(app, api_url if changed else None)
            except (PromgithubError, TimeoutError) as error:
                reason = str(error) or f"no answer within {CONVERSION_SECONDS:.0f} s"
                raise SetupError(f"{reason}. {_left_over(web, org)}") from error
            return app

        page = ConnectPage(web, org, lambda redirect: manifest(name, payload_url, redirect, COUNTED), register)
        try:
            address = await page.start()
            typer.echo(f"Open this page in a browser on this machine, within {format_duration(WITHIN)}:\n  {address}")
            if await unless(stop, page.code_taken(WITHIN)) is None:
                raise SetupError("stopped; no App was registered")
            return await page.registered()
        finally:
            await page.close()


def _left_over(web: str, org: str | None) -> str:
    return (
        f"The App exists on GitHub, but its key is not stored here: delete it at {apps_url(web, org)}, and start again"
    )


def _next_steps(app: NewApp, environment: Path) -> str:
    file = environment if environment.is_absolute() else f"./{environment}"
    use = f"set -a; . {shlex.quote(str(file))}; set +a; promgithub"
    lines = (
        f"The App {app.slug} is registered. {environment.parent} has its key, its secret and the settings.",
        "What remains:",
        f"  1. Install the App and choose its repositories:  {app.installation_url}",
        f"  2. Start promgithub:  {use} standalone",
        f"  3. In another terminal, after a push:  {use} hooks check app",
    )
    return "\n".join(map(printable, lines))
