"""Dead letters as text: whole IDs, ages people understand, and nothing that acts on a terminal."""

import sys
import time

import pytest

from promgithub.letter_listing import Listing, description, line
from shared.broker import DeadLetter
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
    assert line(letter(dead_for=dead_for))[3] == shown


@pytest.mark.parametrize(("size", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB")])
def test_a_size_is_in_the_unit_that_fits(size: int, shown: str) -> None:
    assert line(letter(bytes(size)))[4] == shown


def test_what_would_act_on_a_terminal_or_break_a_line_is_a_space() -> None:
    odd = letter(detail="a\tb\nc\x1b[31md\x9b", name="\rgone")
    assert line(odd)[0] == " gone"
    assert line(odd)[5] == "a b c [31md "
    assert "detail: a b c [31md \n" in description(odd)


def test_a_table_on_a_narrow_terminal_shows_whole_ids_and_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Listing([line(letter(detail="[red]x[/red]")), line(letter(detail="long " * 200))], more=3).print()
    printed = capsys.readouterr().out
    assert printed.count(NAME) == 2
    assert len(printed.splitlines()) == 4
    assert "[red]" in printed
    assert printed.endswith("... and 3 more\n")


def test_a_pipe_gets_every_character(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    Listing([line(letter(detail="long " * 200))], more=0).print()
    assert capsys.readouterr().out.splitlines()[1].split("\t")[5] == "long " * 200


def test_a_description_says_what_is_known() -> None:
    assert "received: 2025-10-20 22:40:00+00:00\nsize: 2 bytes\nhook: 17\ntarget: repository 42" in description(
        letter()
    )
    assert "dead since" not in description(letter(dead_for=None))
