"""Prints sections of the status: as tables on a terminal, or as lines with tabs elsewhere."""

from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from promgithub.commands.status_tables import Cell, Column, Kind, Section, Table, Tone

LONGEST_NAME = 60
"""Maximum number of characters of a name on a terminal."""

WIDE = 110
"""Minimum width of a terminal with all columns, in characters."""

_STYLES = {Tone.PLAIN: "", Tone.QUIET: "dim", Tone.GOOD: "green", Tone.BAD: "bold red"}
_GAP = 2


def plain(sections: Iterable[Section]) -> str:
    """Return sections as text: nothing is cut short, tabs separate columns, and addresses are columns."""
    return "\n\n".join("\n".join(_plain_lines(section)) for section in sections)


def _plain_lines(section: Section) -> Iterator[str]:
    yield section.title
    for part in section.parts:
        if isinstance(part, Cell):
            yield part.text
            continue
        yield ""
        if part.title:
            yield part.title
        if _has_headings(part):
            yield "\t".join(column.heading for column in part.columns)
        for row in part.rows:
            yield "\t".join(cell.text for cell in row)


def screen(sections: Iterable[Section], width: int) -> Group:
    """Return sections for a terminal of so many columns. Names link to what they name."""
    return Group(*(part for section in sections for part in _rendered(section, width)))


def _rendered(section: Section, width: int) -> Iterator[RenderableType]:
    yield Text(section.title, style="bold underline")
    for part in section.parts:
        if isinstance(part, Cell):
            yield Text(part.text, style=_STYLES[part.tone])
        else:
            if part.title:
                yield Text(f"\n{part.title}", style="italic")
            yield _table(part, width)
    yield Text()


def _table(table: Table, width: int) -> RichTable:
    shown = RichTable(box=None, padding=(0, _GAP, 0, 0), show_header=_has_headings(table), pad_edge=False)
    places = {kind: [place for place, one in enumerate(table.columns) if one.kind is kind] for kind in Kind}
    own = [
        place
        for place in sorted([*places[Kind.NAME], *places[Kind.NUMBER]])
        if width >= WIDE or not table.columns[place].wide
    ]
    for place in own:
        _add_column(shown, table.columns[place], [row[place].text for row in table.rows])
    for row in table.rows:
        cells = {place: _text(row[place]) for place in own}
        name = cells[places[Kind.NAME][-1]]
        for place in places[Kind.URL]:
            name.stylize(_link(row[place].text))
        details = [_short(row[place].text) for place in places[Kind.DETAIL] if row[place].text]
        if details:
            name.append("\n" + " · ".join(details), "dim")
        shown.add_row(*cells.values())
    return shown


def _add_column(table: RichTable, column: Column, shown: Iterable[str]) -> None:
    """Add a column. Names share the width that numbers leave."""
    heading = Text(column.heading, style="bold")
    if column.kind is Kind.NUMBER:
        width = max(map(cell_len, [*shown, *column.heading.split(), ""]))
        table.add_column(heading, justify="right", width=width)
    else:
        table.add_column(heading, overflow="fold")


def _has_headings(table: Table) -> bool:
    return any(column.heading for column in table.columns)


def _text(cell: Cell) -> Text:
    return Text(_short(cell.text), style=_STYLES[cell.tone])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _link(url: str) -> Style:
    """Return a style with a link, or without one if the text may not stand in a terminal's escape sequence."""
    usable = url.startswith(("https://", "http://")) and url.isascii() and url.isprintable() and " " not in url
    return Style(link=url if usable else None)
