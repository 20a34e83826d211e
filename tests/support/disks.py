"""Small file systems of a test's own, which it may fill or break. Mounting them takes root, on Linux."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system."""

    directory: Path

    @property
    def _ballast(self) -> Path:
        return self.directory / "ballast"

    @property
    def free(self) -> int:
        """Free bytes."""
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def fill(self, room: int = 0) -> None:
        """Write a file that leaves so many bytes free."""
        with self._ballast.open("ab", buffering=0) as ballast, suppress(OSError):
            while (left := self.free - room) > 0:
                ballast.write(b"x" * min(left, MIB))

    def clear(self) -> None:
        """Remove that file."""
        self._ballast.unlink(missing_ok=True)

    def fail(self) -> None:
        """Let an ext4 file system become read-only, as it does after an error of the device."""
        # https://docs.kernel.org/admin-guide/ext4.html: "abort" simulates the effects of a failure.
        run("mount", "-o", "remount,abort", str(self.directory))


@contextmanager
def memory_disk(directory: Path, size: int) -> Iterator[Disk]:
    """Mount a file system in memory of `size` bytes on a directory, which is created."""
    directory.mkdir()
    with _mounted(directory, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield Disk(directory)


@contextmanager
def image_disk(directory: Path, image: Path) -> Iterator[Disk]:
    """Mount a file system that is stored in a file on a directory, which is created. See `make_image`."""
    directory.mkdir(exist_ok=True)
    with _mounted(directory, "-o", "loop", str(image)):
        yield Disk(directory)


def make_image(image: Path, size: int) -> None:
    """Create an ext4 file system of `size` bytes in a file."""
    with image.open("wb") as file:
        file.truncate(size)
    run("mkfs.ext4", "-q", str(image))


@contextmanager
def _mounted(directory: Path, *source: str) -> Iterator[None]:
    run("mount", *source, str(directory))
    try:
        yield
    finally:
        run("umount", "--lazy", str(directory))


def run(*command: str) -> None:
    """Run a command that takes root. Fails the test if it cannot do its work."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"this test breaks a disk of its own, which takes root on Linux: {command}: {done.stderr}")
