"""The store's families write the same bytes as prometheus_client for the same series."""

import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString

from processor.counting.catalogue import EXPOSED, PUSHES, STORED_BOUNDS
from processor.counting.ci_metrics import CiCounter, CiGauge, CiHistogram, CiMetric, named_labels
from processor.counting.exemplars import Exemplar
from processor.counting.snapshot import CounterRow, HistogramRow, OpenCount, Snapshot
from processor.exposition.families import families
from processor.exposition.text import (
    PIECE,
    LabelReader,
    StreamedCounter,
    StreamedGauge,
    StreamedHistogram,
    number,
    scaled,
    seconds,
)
from promgithub.commands.standalone import CombinedFamilies
from shared.admin import exposition

COUNTERS = [metric for metric in EXPOSED if isinstance(metric, CiCounter)]
HISTOGRAMS = [metric for metric in EXPOSED if isinstance(metric, CiHistogram)]
GAUGES = [metric for metric in EXPOSED if isinstance(metric, CiGauge)]

BIGINT = 2**63 - 1
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        "",
        "\\",
        '"',
        "\n",
        "\\n",
        '\\"',
        '","',
        "%s",
        "%",
        "{}",
        "a\r\u2028b",
        "\0",
        "\x01\x7f",
        "ünï 🚀",
        "le",
        "# EOF\n",
    ]
)
AMOUNTS = st.integers(0, BIGINT) | st.sampled_from([999_999, 1_000_000, 1_000_001, 9_999_999, 2**53 + 1])
MOMENTS = st.integers(0, BIGINT) | st.sampled_from(
    [999_999, 10**9, 10**12 - 1, 10**12, 10**12 + 10, 1_764_000_000_000, 1_764_000_123_456, 10**13 - 1, 10**13]
)


class Only:
    """One family, to be written."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def test_a_page_begins_with_ci_and_ends_with_the_process_and_its_runtime() -> None:
    class Page:
        def collect(self) -> Iterator[Metric]:
            yield GaugeMetricFamily("process_open_fds", "x", 1)
            yield GaugeMetricFamily("promgithub_broker_up", "x", 1)
            yield GaugeMetricFamily("python_info", "x", 1)
            yield StreamedGauge(GAUGES[1], {})
            yield GaugeMetricFamily("promgithub_database_up", "x", 1)
            yield StreamedGauge(GAUGES[0], {})

    lines = exposition.page(Page(), openmetrics=False).decode().splitlines()
    assert [line.split()[2] for line in lines if line.startswith("# TYPE")] == [
        GAUGES[1].name,
        GAUGES[0].name,
        "promgithub_broker_up",
        "promgithub_database_up",
        "process_open_fds",
        "python_info",
    ]


def both(theirs: Callable[[], Metric], ours: Metric) -> Iterator[tuple[bytes, bytes]]:
    """Yield what prometheus_client writes, and what we do, in each format."""
    whole = theirs()
    plain = theirs()
    plain.samples = [sample for sample in plain.samples if not sample.name.endswith("_created")]
    yield generate_latest(Only(plain)), exposition.page(Only(ours), openmetrics=False)
    yield generate_openmetrics(Only(whole)), exposition.page(Only(ours), openmetrics=True)  # type: ignore[no-untyped-call]


def stored(metric: CiMetric[Any], labels: tuple[str, ...]) -> str:
    """Return label values as the store has them: by name, without the empty ones."""
    return msgspec.json.encode(named_labels(zip(metric.label_names, labels, strict=True))).decode()


def reader(metric: CiMetric[Any]) -> LabelReader:
    """Return a reader that has to read everything."""
    return LabelReader(metric, unexpected)


def unexpected(where: str, what: str) -> None:
    pytest.fail(f"{where}: cannot read {what}")


def labels_of(metric: CiMetric[Any]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(*[TEXTS] * len(metric.label_names))


@given(st.data())
def test_counters_are_written_as_prometheus_client_writes_them(data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(COUNTERS))
    series = data.draw(st.lists(st.tuples(labels_of(metric), AMOUNTS, MOMENTS), max_size=3))

    def theirs() -> Metric:
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.label_names)
        for labels, value, created_at in series:
            family.add_metric(labels, value / metric.unit.scale, created=created_at / 1000)
        return family

    rows = [(stored(metric, labels), value, at, False) for labels, value, at in series]
    ours = StreamedCounter(metric, rows, reader(metric))
    for expected, written in both(theirs, ours):
        assert written == expected


@given(st.data())
def test_histograms_are_written_as_prometheus_client_writes_them(data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(HISTOGRAMS))
    width = len(STORED_BOUNDS) + 1
    counts = st.lists(st.integers(0, 10) | AMOUNTS, min_size=width, max_size=width)
    series = data.draw(st.lists(st.tuples(labels_of(metric), MOMENTS, MOMENTS, counts), max_size=3))
    bounds = [bound / 1000 for bound in STORED_BOUNDS]
    exposed = {bound / 1000 for bound in metric.buckets}

    def distribution(counts: Sequence[int]) -> list[tuple[str, int]]:
        *sums, total = accumulate(counts)
        finite = [(floatToGoString(b), n) for b, n in zip(bounds, sums, strict=True) if b in exposed]  # type: ignore[no-untyped-call]
        return [*finite, ("+Inf", total)]

    def theirs() -> Metric:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.label_names)
        for labels, sum_ms, created_at, buckets in series:
            family.add_metric(labels, distribution(buckets), sum_ms / 1000)
            family.add_sample(
                f"{metric.name}_created", dict(zip(metric.label_names, labels, strict=True)), created_at / 1000
            )
        return family

    rows = [(stored(metric, labels), sum_ms, at, buckets, False) for labels, sum_ms, at, buckets in series]
    ours = StreamedHistogram(metric, rows, reader(metric))
    for expected, written in both(theirs, ours):
        assert written == expected


@given(st.data())
def test_exemplars_are_written_as_prometheus_client_writes_them(data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(HISTOGRAMS))
    places = st.integers(0, len(metric.buckets))
    ids = st.integers(0, BIGINT)
    drawn = data.draw(st.dictionaries(places, st.tuples(MOMENTS, AMOUNTS, ids, ids | st.none())))
    exemplars = {
        place: Exemplar(at, value, (("run_id", run),) if job is None else (("job_id", job), ("run_id", run)))
        for place, (at, value, run, job) in drawn.items()
    }
    labels = data.draw(labels_of(metric))
    bounds = [*(floatToGoString(bound / 1000) for bound in metric.buckets), "+Inf"]  # type: ignore[no-untyped-call]

    def shown(place: int) -> PrometheusExemplar | None:
        one = exemplars.get(place)
        named = {name: str(value) for name, value in one.labels} if one else {}
        return one and PrometheusExemplar(named, one.milliseconds / 1000, one.at / 1000)

    def theirs() -> Metric:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.label_names)
        buckets: list[Any] = [(bound, place + 1.0, shown(place)) for place, bound in enumerate(bounds)]
        family.add_metric(labels, buckets, 1)
        family.add_sample(f"{metric.name}_created", dict(zip(metric.label_names, labels, strict=True)), 1)
        return family

    counts = [*(int(bound in metric.buckets) for bound in STORED_BOUNDS), 1]
    series = stored(metric, labels)
    ours = StreamedHistogram(metric, [(series, 1000, 1000, counts, False)], reader(metric), {series: exemplars})
    for expected, written in both(theirs, ours):
        assert written == expected


@given(st.data())
def test_gauges_are_written_as_prometheus_client_writes_them(data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(GAUGES))
    values = AMOUNTS | st.floats(0, allow_nan=False, allow_infinity=False)
    series = data.draw(st.dictionaries(labels_of(metric), values, max_size=3))

    def theirs() -> Metric:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.label_names)
        for labels, value in series.items():
            family.add_metric(labels, value / metric.unit.scale)
        return family

    for expected, written in both(theirs, StreamedGauge(metric, series)):
        assert written == expected


@given(st.integers(-BIGINT, BIGINT) | AMOUNTS)
@example(1_000_000)
def test_integers_are_written_as_prometheus_client_writes_floats(value: int) -> None:
    assert number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


@given(st.integers(-BIGINT, BIGINT) | MOMENTS | st.integers(10**12, 10**13))
@example(999_999_999)
@example(1_000_000_000)
@example(1_000_000_000_000)
@example(1_764_000_123_450)
@example(-176_400_012_345)
def test_milliseconds_are_written_as_prometheus_client_writes_seconds(milliseconds: int) -> None:
    assert seconds(milliseconds) == floatToGoString(milliseconds / 1000)  # type: ignore[no-untyped-call]


@given(st.integers(0, BIGINT) | AMOUNTS, st.sampled_from([1, 1000, 1_000_000]))
def test_stored_units_are_written_as_prometheus_client_writes_floats(value: int, scale: int) -> None:
    assert scaled(value, scale) == floatToGoString(value / scale)  # type: ignore[no-untyped-call]


def test_a_family_of_many_pieces_misses_none_and_repeats_none() -> None:
    rows = [(stored(PUSHES, (f"acme/{i}",)), i, i, False) for i in range(1, 3 * PIECE + 2)]
    written = StreamedCounter(PUSHES, rows, reader(PUSHES))
    assert len(list(written.lines(openmetrics=False, to_scraper=False))) == 4
    lines = exposition.page(Only(written), openmetrics=False).decode().splitlines()[2:]
    assert lines == [f'promgithub_push_total{{repository="acme/{i}"}} {number(i)}' for i in range(1, 3 * PIECE + 2)]


def snapshot(
    counters: Mapping[str, Sequence[CounterRow]],
    opened: Mapping[str, Sequence[OpenCount]] | None = None,
    gauge_labels: Mapping[str, Sequence[str]] | None = None,
) -> Snapshot:
    histograms: dict[str, list[HistogramRow]] = {}
    return Snapshot(5_000, counters, histograms, opened or {}, {}, gauge_labels or {})


class Stored:
    """The store's families, once with a registry beside them."""

    def __init__(self, taken: Snapshot, max_series: int = 10) -> None:
        self._taken = taken
        self._max_series = max_series

    def collect(self) -> Iterable[Metric]:
        return families(self._taken, self._max_series, EXPOSED, unexpected)


def test_every_metric_is_introduced_even_without_series() -> None:
    page = exposition.page(Stored(snapshot({})), openmetrics=False).decode()
    types = [line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE")]
    total = {"counter": "_total"}
    assert types == [
        [f"{metric.name}{total.get(metric.prometheus_type, '')}", metric.prometheus_type] for metric in EXPOSED
    ]


def test_gauges_are_zero_for_what_was_seen_and_bounded_as_the_series_are() -> None:
    seen = [f'{{"branch":"main","repository":"a","workflow_name":"{name}"}}' for name in ("x", "y", "z")]
    opened = [OpenCount(("a", "main", name), "queued", 2, 1_000) for name in ("x", "z")]
    taken = snapshot({}, {"run": opened}, {"promgithub_workflow": seen})
    lines = exposition.page(Stored(taken, 2), openmetrics=False).decode().splitlines()
    queued = [line for line in lines if line.startswith("promgithub_workflow_queued{")]
    assert queued == [
        'promgithub_workflow_queued{branch="main",repository="a",workflow_name="x"} 2.0',
        'promgithub_workflow_queued{branch="main",repository="a",workflow_name="y"} 0.0',
        'promgithub_workflow_queued{branch="__overflow__",repository="__overflow__",workflow_name="__overflow__"} 2.0',
    ]
    ages = [line for line in lines if line.startswith("promgithub_workflow_oldest_age_seconds{")]
    assert 'promgithub_workflow_oldest_age_seconds{repository="a",workflow_status="queued"} 4.0' in ages


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_written_families_stand_among_those_of_the_process_with_one_end(openmetrics: bool, compressed: bool) -> None:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    counters = {"promgithub_push": [(stored(PUSHES, ("acme/gears",)), 3, 1_764_000_000_000, False)]}
    sources = CombinedFamilies(registry, Stored(snapshot(counters)), registry)
    body = exposition.page(sources, openmetrics=openmetrics, compressed=compressed)
    lines = (gzip.decompress(body) if compressed else body).decode().splitlines()
    assert lines.count("things_total 1.0") == 1
    assert lines.count('promgithub_push_total{repository="acme/gears"} 3.0') == 1
    assert any("_created" in line for line in lines) is openmetrics
    assert [place for place, line in enumerate(lines) if line == "# EOF"] == [len(lines) - 1] * openmetrics
