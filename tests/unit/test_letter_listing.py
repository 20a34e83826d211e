"""Dead letters as text: whole IDs, ages people understand, and nothing that acts on a terminal."""

import json
import sys
import time
from dataclasses import replace

import pytest

from promgithub.commands.letter_listing import (
    JsonLetterList,
    LetterList,
    description,
    json_line,
    json_with_payload,
    line,
)
from shared.brokers.interface import DeadLetter
from shared.delivery import Delivery

NAME = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


def letter(
    body: bytes = b"{}", detail: str = "not JSON", *, dead_for: float | None = 0, name: str = NAME
) -> DeadLetter:
    dead_at = None if dead_for is None else int((time.time() - dead_for) * 1000) - 100
    return DeadLetter(
        1, Delivery(name, "push", body, 1_761_000_000_123, "17", "repository", "42"), "refused", detail, dead_at
    )


@pytest.mark.parametrize(
    ("dead_for", "shown"),
    [
        (None, "unknown"),
        (-60, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86_400 * 9, "9 d"),
    ],
)
def test_an_age_is_in_the_largest_whole_unit(dead_for: float | None, shown: str) -> None:
    assert line(letter(dead_for=dead_for))[4] == shown


@pytest.mark.parametrize(("size", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB")])
def test_a_size_is_in_the_unit_that_fits(size: int, shown: str) -> None:
    assert line(letter(bytes(size)))[5] == shown


def test_what_would_act_on_a_terminal_or_break_a_line_is_a_space() -> None:
    odd = letter(detail="a\tb\nc\x1b[31md\x9b", name="\rgone")
    assert line(odd)[0] == " gone"
    assert line(odd)[6] == "a b c [31md "
    assert "detail: a b c [31md \n" in description(odd)


def test_a_table_on_a_narrow_terminal_shows_whole_ids_and_details_and_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    LetterList([line(letter(detail="[red]x[/red]")), line(letter(detail="long " * 200))], more=3).print()
    printed = capsys.readouterr().out
    assert printed.count(NAME) == 2
    assert printed.count("long ") == 200
    assert len(printed.splitlines()) == 4
    heading, one = printed.splitlines()[:2]
    assert heading.index("DETAIL") == one.index("[red]")
    assert "[red]" in printed
    assert printed.endswith("... and 3 more\n")


def test_a_pipe_gets_every_character(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    LetterList([line(letter(detail="long " * 200))], more=0).print()
    assert capsys.readouterr().out.splitlines()[1].split("\t")[6] == "long " * 200


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"repository": {"full_name": "o/r", "id": "odd"}}', "o/r"),
        (b'{"repository": null}', ""),
        (b'{"repository": {"full_name": 7}}', ""),
        (b"{}", ""),
        (b"\xff not JSON", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_the_repository_is_the_one_in_the_payload(body: bytes, shown: str) -> None:
    one = letter(body)
    assert line(one)[2] == shown
    assert json.loads(json_line(one))["repository"] == (shown or None)
    assert (f"repository: {shown}" in description(one)) == bool(shown)


def test_json_with_the_payload_has_it_as_text() -> None:
    one = letter(b'{"action": "na\xc3\xafve"}\xff')
    shown = json.loads(json_with_payload(one))
    assert shown.pop("payload") == '{"action": "na\u00efve"}\N{REPLACEMENT CHARACTER}'
    assert shown == json.loads(json_line(one))


def test_a_letter_as_json_is_one_printable_line_with_everything_but_the_payload() -> None:
    one = letter(b"x" * 5, detail="a\nb\x9b")
    one = replace(one, delivery=replace(one.delivery, host="ghes.example.com"))
    shown = json_line(one)
    assert shown.isprintable()
    assert json.loads(shown) == {
        "id": NAME,
        "event": "push",
        "host": "ghes.example.com",
        "repository": None,
        "reason": "refused",
        "detail": "a\nb\x9b",
        "dead_at": one.dead_at,
        "received_at": 1_761_000_000_123,
        "size": 5,
        "hook_id": "17",
        "target_type": "repository",
        "target_id": "42",
        "source": None,
    }


def test_standard_output_has_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLetterList([json_line(letter())] * 2, more=3).print()
    printed = capsys.readouterr()
    assert [json.loads(one)["id"] for one in printed.out.splitlines()] == [NAME, NAME]
    assert printed.err == "... and 3 more\n"
    JsonLetterList([], more=0).print()
    assert capsys.readouterr() == ("", "")


def test_a_description_says_what_is_known() -> None:
    assert "received: 2025-10-20 22:40:00+00:00\nsize: 2 bytes\nhook: 17\ntarget: repository 42" in description(
        letter()
    )
    assert "dead since" not in description(letter(dead_for=None))


def test_a_description_says_the_host_of_an_enterprise_server() -> None:
    one = letter()
    assert "host: " not in description(one)
    there = replace(one, delivery=replace(one.delivery, host="ghes.example.com"))
    assert "event: push\nhost: ghes.example.com\n" in description(there)
