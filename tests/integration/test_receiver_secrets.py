"""A change of the secrets under load causes no refusal."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ingest.secrets import SETTLED_SECONDS, Secrets
from shared.errors import SettingsError
from shared.text_files import MAX_TEXT_BYTES
from tests.support.receiver import Running, receiver


def write(file: Path, content: str) -> None:
    file.write_text(content)


def replace(file: Path, content: str) -> None:
    replacement = file.with_name("replacement")
    replacement.write_text(content)
    replacement.replace(file)


def empty(file: Path) -> None:
    file.write_text("\n \n")


def remove(file: Path) -> None:
    file.unlink()


def make_a_directory_of(file: Path) -> None:
    file.mkdir()


def make_a_file_again(file: Path) -> None:
    file.rmdir()
    file.write_text("new")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.write_text("old\n")
    return path


@pytest_asyncio.fixture
async def running(amqp_url: str, queue_name: str, file: Path) -> AsyncIterator[Running]:
    async with receiver(amqp_url=amqp_url, queue_name=queue_name, webhook_secret_file=file) as started:
        await started.until_ready()
        yield started


async def test_both_secrets_hold_during_a_rotation_and_then_only_the_new_one(running: Running, file: Path) -> None:
    assert [(await running.send(secret=secret)).status for secret in ("old", "new")] == [202, 401]
    write(file, "new\nold\n")
    assert [(await running.send(secret=secret)).status for secret in ("old", "new")] == [202, 202]
    write(file, "new\n")
    assert [(await running.send(secret=secret)).status for secret in ("old", "new")] == [401, 202]


async def test_no_delivery_is_refused_while_the_file_changes_again_and_again(running: Running, file: Path) -> None:
    refused: list[str] = []

    async def send(secret: str) -> None:
        while not done.is_set():
            if (await running.send(secret=secret)).status != 202:
                refused.append(secret)

    write(file, "one\ntwo\n")
    done = asyncio.Event()
    senders = [asyncio.create_task(send(secret)) for secret in ("one", "two")]
    for number in range(100):
        replace(file, f"one\n{number}\ntwo\n" if number % 2 else "two\none\n")
        await asyncio.sleep(0.005)
    done.set()
    await asyncio.gather(*senders)
    assert refused == []


async def test_a_broken_file_leaves_the_last_secrets_in_force(running: Running, file: Path) -> None:
    for break_file in (empty, remove, make_a_directory_of):
        break_file(file)
        assert (await running.send(secret="old")).status == 202
        assert (await running.send(secret="")).status == 401
    make_a_file_again(file)
    assert (await running.send(secret="new")).status == 202


def test_a_file_has_one_secret_a_line_whatever_the_line_ends(file: Path) -> None:
    file.write_bytes("\r\n one\r\n\n\ttwo three \nvière".encode())
    assert Secrets(None, file).current() == (b"one", b"two three", "vière".encode())


UNREADABLE = {
    "UTF-8 with a mark": b"\xef\xbb\xbfnew\n",
    "UTF-16 with a mark": "new\n".encode("utf-16"),
    "UTF-16 without a mark": "new\n".encode("utf-16-le"),
    "Latin-1": "né\n".encode("latin-1"),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_file_that_is_not_plain_utf_8_is_refused_and_the_last_secrets_stay_valid(file: Path, content: bytes) -> None:
    secrets = Secrets(None, file)
    file.write_bytes(content)
    assert secrets.current() == (b"old",)
    with pytest.raises(SettingsError, match=r"PROMGITHUB_WEBHOOK_SECRET_FILE: .*(byte order mark|NUL|not UTF-8)"):
        Secrets(None, file)
    file.write_text("new\n")
    assert secrets.current() == (b"new",)


def test_a_change_that_leaves_no_trace_in_the_time_stamp_is_seen_all_the_same(file: Path) -> None:
    secrets = Secrets(None, file)
    stamp = os.stat(file)
    assert secrets.current() == (b"old",)
    file.write_text("new\n")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert secrets.current() == (b"new",)


def test_a_file_that_has_settled_is_not_read_again(file: Path) -> None:
    long_ago = os.stat(file).st_mtime - 10 * SETTLED_SECONDS
    os.utime(file, (long_ago, long_ago))
    secrets = Secrets(None, file)
    assert secrets.current() == (b"old",)
    file.write_text("new\n")
    os.utime(file, (long_ago, long_ago))
    assert secrets.current() == (b"old",)


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"x" * (MAX_TEXT_BYTES + 1)])
def test_a_file_without_secrets_stops_the_start(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="PROMGITHUB_WEBHOOK_SECRET_FILE"):
        Secrets(None, file)


def test_an_unreadable_file_stops_the_start_and_says_why(file: Path) -> None:
    file.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        Secrets(None, file)
