"""The tables in the documentation say what the code says."""

from pathlib import Path

import pytest

from promgithub.reference import TABLES, configuration, render

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_the_tables_of_a_page_are_what_make_docs_would_write(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == render(text), "run `make docs` and commit what it writes"


def test_every_table_stands_in_the_metrics_reference() -> None:
    text = (DOCS / "metrics.md").read_text("utf-8")
    assert all(f"<!-- begin {name} -->" in text for name in TABLES)


def test_the_configuration_reference_is_what_make_docs_would_write() -> None:
    assert (DOCS / "configuration.md").read_text("utf-8") == configuration(), (
        "run `make docs` and commit what it writes"
    )
