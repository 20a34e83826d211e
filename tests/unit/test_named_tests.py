"""The documentation names only existing tests."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_TEST = re.compile(r"`((?:integration/|unit/)?test_\w+\.py)(?:::(\w+))?`")


def named(page: str) -> Iterator[tuple[str, str]]:
    for file, test in _TEST.findall((ROOT / "docs" / page).read_text("utf-8")):
        yield file if "/" in file else f"system/{file}", test


@pytest.mark.parametrize(("file", "test"), sorted({*named("faults.md"), *named("security.md"), *named("services.md")}))
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    content = (ROOT / "tests" / file).read_text("utf-8")
    assert f"def {test or 'test_'}" in content


def test_every_test_of_the_whole_pipeline_under_a_fault_is_named() -> None:
    files = {path.name for path in (ROOT / "tests/system").glob("test_*.py")}
    without_faults = {
        "test_connect.py",
        "test_connecting.py",
        "test_dashboards.py",
        "test_distribution.py",
        "test_exemplars.py",
        "test_hooks.py",
        "test_quickstart.py",
        "test_simulate.py",
        "test_site.py",
        "test_status_api.py",
        "test_status_command.py",
        "test_status_page.py",
        "test_tls_proxies.py",
    }
    assert files - without_faults == {
        file.removeprefix("system/") for file, _ in named("faults.md") if "system/" in file
    }
