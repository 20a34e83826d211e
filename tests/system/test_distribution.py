"""The sdist and the wheel that a release consists of, built as `make dist` does, and the wheel installed and run.

The wheel is installed by pip into an empty virtual environment. Its dependencies are not downloaded: those that its
metadata asks for, and no other package of the development environment, are linked from there.
"""

import subprocess
import sys
import tarfile
import tomllib
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path
from shutil import copy2
from zipfile import ZipFile

import aiohttp
import pytest
from packaging.requirements import Requirement

from tests.support import builders
from tests.support.deployment import ROOT
from tests.support.github import SECRET, GitHub
from tests.support.processes import Launcher

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

GENERATED = ("PKG-INFO", "setup.cfg", "promgithub.egg-info/*")
"""What setuptools adds to an sdist."""

PRIVATE = (
    ".env",
    "data/promgithub.db",
    "data/webhook-secret",
    "deploy/kubernetes/overlays/mine/kustomization.yaml",
    "deploy/kubernetes/overlays/example/webhook-secret",
    "deploy/notes.yaml.orig",
    "ingest/webhook-secret",
    "tests/support/__pycache__/builders.cpython-311.pyc",
)
"""What may lie in a checkout and must not be published."""


@dataclass(frozen=True)
class Built:
    """A copy of the checkout, and what was built from it."""

    tree: Path
    sdist: Path
    wheel: Path


def own_files() -> Iterator[Path]:
    """Yield the files of the checkout that belong to the repository, relative to it: all that git does not ignore."""
    ignored = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines())]
    for path in sorted(ROOT.iterdir()):
        if path.is_dir() and path.name.startswith(".") and path.name != ".ci":
            continue  # an editor's own
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            relative = file.relative_to(ROOT)
            names = (*relative.parts, str(relative))
            if file.is_file() and not any(fnmatch(name, pattern) for name in names for pattern in ignored):
                yield relative


def run(command: Sequence[str | Path], directory: Path) -> str:
    """Run a command to its end; return its output. Fails with what it says."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Give an sdist of a checkout that also has private files, and the wheel that was built from the sdist."""
    tree = tmp_path_factory.mktemp("checkout")
    for path in own_files():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        copy2(ROOT / path, tree / path)
    for name in PRIVATE:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("private")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", tree / "dist", tree], tree)
    return Built(tree, tree / f"dist/promgithub-{VERSION}.tar.gz", tree / f"dist/promgithub-{VERSION}-py3-none-any.whl")


def needed_by(metadata: Distribution, extras: frozenset[str] = frozenset()) -> Iterator[Distribution]:
    """Yield the installed packages that a package needs on this platform, directly or not; some more than once."""
    for text in metadata.requires or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras}
        )
        if wanted:
            found = distribution(requirement.name)
            assert found.version in requirement.specifier, f"{requirement} is installed as {found.version}"
            yield found
            yield from needed_by(found, frozenset(requirement.extras))


@pytest.fixture(scope="module")
def environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the `bin` of an environment that has the wheel and what the wheel needs, and nothing else."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(directory / "bin/python")]
    run([*pip, "install", "--no-deps", "--no-index", str(built.wheel)], directory)
    packages = next(directory.glob("lib/python*/site-packages"))
    for package in needed_by(PathDistribution(next(packages.glob("promgithub-*.dist-info")))):
        for name in {file.parts[0] for file in package.files or () if file.parts[0] not in {"..", "__pycache__"}}:
            if not (packages / name).exists():
                (packages / name).symlink_to(Path(str(package.locate_file(name))))
    run([*pip, "check"], directory)
    return directory / "bin"


def test_the_sdist_has_every_file_of_the_repository_and_nothing_else(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        files = {entry.name.partition("/")[2] for entry in archive if entry.isfile()}
    published = {file for file in files if not any(fnmatch(file, pattern) for pattern in GENERATED)}
    assert published == {str(path) for path in own_files()}


def test_the_wheel_has_the_program_and_nothing_else(built: Built) -> None:
    with ZipFile(built.wheel) as archive:
        files = {name for name in archive.namelist() if f"promgithub-{VERSION}.dist-info/" not in name}
    assert files == {
        str(path) for path in own_files() if path.parts[0] in {"ingest", "processor", "promgithub", "shared"}
    }


def test_the_installed_command_is_of_the_wheel_and_says_its_version(environment: Path, tmp_path: Path) -> None:
    modules = "ingest, processor, promgithub, shared"
    places = f"import {modules}; print(*(module.__file__ for module in ({modules})))"
    for place in run([environment / "python", "-I", "-c", places], tmp_path).split():
        assert Path(place).is_relative_to(environment.parent)
    assert run([environment / "promgithub", "--version"], tmp_path) == f"promgithub {VERSION}\n"


async def test_the_installed_command_checks_settings_and_runs_standalone_with_its_page(
    environment: Path, launcher: Launcher, github: GitHub, tmp_path: Path
) -> None:
    command = str(environment / "promgithub")
    checking = launcher.start_command([command, "check-config", "standalone"], WEBHOOK_SECRET=SECRET)
    assert await checking.ended(within=60) == 0, checking.log
    assert SECRET not in checking.log

    standalone = launcher.start_command(
        [command, "standalone", "--data-dir", str(tmp_path / "data")], WEBHOOK_SECRET=SECRET
    )
    await standalone.ready(within=60)
    await github.deliver(standalone, builders.delivery(builders.job(1, name="waits")))
    await github.drained(standalone, processed=1)
    async with aiohttp.ClientSession() as client, client.get(f"{standalone.admin_url}/") as answer:
        page = await answer.text()
        assert answer.status == 200
    assert "waits" in page
    for part in ("shared/admin/templates/page.css", "processor/status/templates/page.js"):
        assert (ROOT / part).read_text("utf-8").strip() in page
    assert await standalone.terminate() == 0, standalone.log
