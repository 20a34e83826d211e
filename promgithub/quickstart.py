"""The implementation of `make run` and `make demo`: `python -m promgithub.quickstart run`, or `demo`."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import typer

from promgithub.commands.running import load_or_exit
from promgithub.commands.standalone import serve_from
from shared.settings import StandaloneSettings

PROMGITHUB = str(Path(sys.executable).with_name("promgithub"))

SECRET_FILE = "webhook-secret"  # noqa: S105 - the name of a file
"""The file in the data directory with the secret that `run` has generated."""

READY_WITHIN = 30.0
"""How long the demonstration waits for standalone to start, in seconds."""

DEMO_GRACE = "10s"
"""The setting GRACE of the demonstration. It is longer than the sending, so that no run becomes stale meanwhile."""

LINES_SHOWN = 4
"""Number of lines of each metric that the demonstration prints at its end."""

app = typer.Typer(help="Implements `make run` and `make demo`.", add_completion=False, rich_markup_mode=None)


@app.command()
def run(data_dir: Path = Path("data")) -> None:
    """Start standalone with a generated secret. Print the next steps when it is ready."""
    if not (os.environ.get("PROMGITHUB_WEBHOOK_SECRET") or os.environ.get("PROMGITHUB_WEBHOOK_SECRET_FILE")):
        os.environ["PROMGITHUB_WEBHOOK_SECRET_FILE"] = str(_secret_file(data_dir))
    for listener in ("SERVICE_HOST", "ADMIN_HOST"):
        os.environ.setdefault(f"PROMGITHUB_{listener}", "127.0.0.1")
    settings = load_or_exit(StandaloneSettings)
    webhook = f"http://localhost:{settings.service_port}/webhook"
    page = f"http://localhost:{settings.admin_port}"
    metrics = f"{page}/metrics"
    file = settings.webhook_secret_file
    secret = file.read_text("utf-8").split("\n", 1)[0] if file else "the one in PROMGITHUB_WEBHOOK_SECRET"
    command = _shown(PROMGITHUB)
    lines = (
        "promgithub is ready. Ctrl-C stops it without losing deliveries.",
        "",
        f"  What is queued, running and failing:  {page}",
        "  For GitHub's form (Settings, Webhooks, Add webhook):",
        f"    Payload URL   {webhook}  (GitHub needs a public address that forwards to it)",
        "    Content type  application/json",
        f"    Secret        {secret}",
        "  Or let a command do it (docs/connecting.md has the steps):",
        f"    {command} connect       registers a GitHub App",
        f"    {command} hooks create  creates the webhook, with a token",
        f"  For Prometheus:  {metrics}",
        f"  To try it in another terminal with simulated data (it stays until you delete {data_dir}/promgithub.db):",
        f"    {command} simulate {webhook} --metrics {metrics}" + (f" --secret-file {file}" if file else ""),
        "",
    )

    def announce() -> None:
        typer.echo("\n".join(lines))
        sys.stdout.flush()

    serve_from(data_dir, settings, announce)


@app.command()
def demo() -> None:
    """Start standalone in a temporary directory, run a simulation, print some metrics, and stop."""
    service_port, admin_port = _free_ports(2)
    webhook, admin = f"http://localhost:{service_port}/webhook", f"http://localhost:{admin_port}"
    settings = {
        "SERVICE_HOST": "127.0.0.1",
        "ADMIN_HOST": "127.0.0.1",
        "SERVICE_PORT": str(service_port),
        "ADMIN_PORT": str(admin_port),
        "WEBHOOK_SECRET": secrets.token_urlsafe(24),
        "LOG_LEVEL": "warning",
        "GRACE": DEMO_GRACE,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMGITHUB_")}
    environment |= {f"PROMGITHUB_{name}": value for name, value in settings.items()}
    with (
        tempfile.TemporaryDirectory(prefix="promgithub-demo-") as directory,
        _standalone(directory, environment) as one,
    ):
        typer.echo(f"Started promgithub standalone: webhook {webhook}, page {admin}, metrics {admin}/metrics")
        _wait_until_ready(f"{admin}/readyz", one)
        typer.echo("Sending 2,000 deliveries at 400 per second, out of order, one fifth of them twice ...\n")
        options = ["--deliveries", "2000", "--rate", "400", "--duplicates", "0.2", "--disorder", "0.1", "--settled"]
        simulate = [PROMGITHUB, "simulate", webhook, "--metrics", f"{admin}/metrics", *options]
        verdict = subprocess.run(simulate, env=environment, check=False)  # noqa: S603 - our own command
        typer.echo(f"\nSome lines of {admin}/metrics:\n")
        for line in _top(f"{admin}/metrics"):
            typer.echo(f"  {line}")
    typer.echo("\nStopped. `make run` starts a permanent promgithub.")
    raise typer.Exit(verdict.returncode)


def _secret_file(data_dir: Path) -> Path:
    """Return the file with the secret. The first start generates it."""
    file = data_dir / SECRET_FILE
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as writing:
                writing.write(f"{secrets.token_urlsafe(32)}\n")
    except OSError as error:
        typer.echo(f"promgithub: {data_dir}: cannot be used ({error.strerror}); takes a writable directory", err=True)
        raise typer.Exit(2) from None
    return file


def _shown(program: str) -> str:
    """Return a program's path, relative to the current directory if possible."""
    path = Path(program)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else program


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def _standalone(directory: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [PROMGITHUB, "standalone", "--data-dir", directory]
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own command
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - our own URL
            return
        time.sleep(0.1)
    typer.echo("promgithub: standalone did not become ready", err=True)
    raise typer.Exit(1)


def _top(url: str) -> list[str]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own URL
        lines = answer.read().decode().splitlines()
    metrics = ("promgithub_workflow_status_total", "promgithub_job_queued", "promgithub_job_duration_seconds_count")
    return [line for metric in metrics for line in sorted(one for one in lines if one.startswith(metric))[:LINES_SHOWN]]


if __name__ == "__main__":
    app()
