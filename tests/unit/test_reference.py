"""The tables in the documentation, and the configurations of Prometheus, say what the code says."""

import re
from pathlib import Path

import pytest

from promgithub.openapi import openapi_json
from promgithub.reference import BLOCKS, SCRAPE_CONFIGURATIONS, TABLES, configuration, render, render_scraping

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_the_tables_of_a_page_are_what_make_docs_would_write(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == render(text), "run `make docs` and commit what it writes"


def test_every_block_stands_on_a_page() -> None:
    text = "".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))
    assert all(f"<!-- begin {name} -->" in text for name in BLOCKS)


@pytest.mark.parametrize("page", ["coming-from-elsewhere.md", "migrating-from-upstream.md"])
def test_what_is_named_in_the_place_of_a_foreign_metric_is_a_metric(page: str) -> None:
    _, *rows = re.findall(r"^\|[^|]+\|([^|]+)\|", (DOCS / page).read_text("utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"promgithub_\w+", row)}
    assert named
    assert named <= {name for table in TABLES.values() for name in re.findall(r"^\| `(\w+)` ", table(), re.MULTILINE)}


def test_the_configuration_reference_is_what_make_docs_would_write() -> None:
    assert (DOCS / "configuration.md").read_text("utf-8") == configuration(), (
        "run `make docs` and commit what it writes"
    )


def test_the_openapi_document_is_what_make_docs_would_write() -> None:
    assert (DOCS / "openapi.json").read_text("utf-8") == openapi_json(), "run `make docs` and commit what it writes"


@pytest.mark.parametrize("file", SCRAPE_CONFIGURATIONS)
def test_the_configurations_of_prometheus_are_what_make_docs_would_write(file: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    assert text == render_scraping(text), "run `make docs` and commit what it writes"
