"""The PromQL helpers of the tests of dashboards and rules."""

import pytest

from tests.support.promql import grouped_by, made_by, selectors, with_labels


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ("up", ["up"]),
        ("sum by (le, a) (rate(x_bucket[5m])) / on (a) group_left () y offset 5m", ["x_bucket", "y"]),
        (
            'a{b="}",c!~"d|e(f)"}[1h:] > 0.5 or absent(g:h{}) and time() - 1e3 * i',
            ['a{b="}",c!~"d|e(f)"}', "g:h{}", "i"],
        ),
        ('label_replace(a, "b", "$1", "c", "(.*)") unless bytes', ["a", "bytes"]),
        ("sum(a) by (b) > bool 0", ["a"]),
    ],
)
def test_selectors_are_found_and_nothing_else(expr: str, found: list[str]) -> None:
    assert list(selectors(expr)) == found


def test_a_selector_is_widened_to_its_labels() -> None:
    assert with_labels('a{c!~"d, e=f", b="x"}') == 'a{b!="", c!=""}'
    assert with_labels("a") == "a"


def test_the_labels_of_every_clause_are_found() -> None:
    assert grouped_by('sum by (a, b) (c{d="by (e)"}) * on(f) group_left (g) h') == {"a", "b", "f", "g"}


def test_labels_that_an_expression_makes_are_found() -> None:
    inner = 'label_replace(a{b="c", d=~"e"}, "made", "$1", "b", "(.*)")'
    assert made_by(f'sum by (x) (label_replace(sum by (made) ({inner}), "again", "", "", ""))') == {"made", "again"}
