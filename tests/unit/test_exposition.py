"""What the store's families write themselves is, byte for byte, what prometheus_client writes of the same series."""

import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.utils import floatToGoString

from processor.exposition import families
from processor.series import METRICS, Kind, cumulative
from processor.store.snapshot import CounterRow, HistogramRow, OpenCount, Snapshot
from processor.store.tables import BUCKET_COLUMNS
from processor.writing import PIECE, WrittenCounter, WrittenGauge, WrittenHistogram, number, seconds
from promgithub.standalone import Together
from shared import exposition

COUNTERS = [metric for metric in METRICS.values() if metric.kind is Kind.COUNTER]
HISTOGRAMS = [metric for metric in METRICS.values() if metric.kind is Kind.HISTOGRAM]
GAUGES = [metric for metric in METRICS.values() if metric.kind is Kind.GAUGE]

BIGINT = 2**63 - 1
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", "\\", '"', "\n", "\\n", '\\"', '","', "%s", "%", "{}", "a\r\u2028b", "\x01\x7f", "ünï 🚀", "le", "# EOF\n"]
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


def both(theirs: Callable[[], Metric], ours: Metric) -> Iterator[tuple[bytes, bytes]]:
    """Yield what prometheus_client writes, and what we do, in each format."""
    whole = theirs()
    plain = theirs()
    plain.samples = [sample for sample in plain.samples if not sample.name.endswith("_created")]
    yield generate_latest(Only(plain)), exposition.page(Only(ours), openmetrics=False)
    yield generate_openmetrics(Only(whole)), exposition.page(Only(ours), openmetrics=True)  # type: ignore[no-untyped-call]


def stored(labels: Sequence[str]) -> str:
    """Return label values as the store has them."""
    return msgspec.json.encode(labels).decode()


def labels_of(count: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(*[TEXTS] * count)


@given(st.data())
def test_counters_are_written_as_prometheus_client_writes_them(data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(COUNTERS))
    series = data.draw(st.lists(st.tuples(labels_of(len(metric.labels)), AMOUNTS, MOMENTS), max_size=3))

    def theirs() -> Metric:
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value, created_at in series:
            family.add_metric(labels, value, created=created_at / 1000)
        return family

    ours = WrittenCounter(metric, [(stored(labels), value, at) for labels, value, at in series])
    for expected, written in both(theirs, ours):
        assert written == expected


@given(st.data())
def test_histograms_are_written_as_prometheus_client_writes_them(data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(HISTOGRAMS))
    width = len(metric.buckets) + 1
    counts = st.lists(st.integers(0, 10) | AMOUNTS, min_size=width, max_size=width)
    series = data.draw(st.lists(st.tuples(labels_of(len(metric.labels)), MOMENTS, MOMENTS, counts), max_size=3))
    bounds = [*(f"{bound}.0" for bound in metric.buckets), "+Inf"]

    def theirs() -> Metric:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, sum_ms, created_at, buckets in series:
            family.add_metric(labels, list(zip(bounds, cumulative(buckets), strict=True)), sum_ms / 1000)
            family.add_sample(
                f"{metric.name}_created", dict(zip(metric.labels, labels, strict=True)), created_at / 1000
            )
        return family

    unused = [0] * (len(BUCKET_COLUMNS) - width)
    ours = WrittenHistogram(
        metric, [(stored(labels), sum_ms, at, (*buckets, *unused)) for labels, sum_ms, at, buckets in series]
    )
    for expected, written in both(theirs, ours):
        assert written == expected


@given(st.data())
def test_gauges_are_written_as_prometheus_client_writes_them(data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(GAUGES))
    values = AMOUNTS | st.floats(0, allow_nan=False, allow_infinity=False)
    series = data.draw(st.dictionaries(labels_of(len(metric.labels)), values, max_size=3))

    def theirs() -> Metric:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in series.items():
            family.add_metric(labels, value)
        return family

    for expected, written in both(theirs, WrittenGauge(metric, series)):
        assert written == expected


@given(st.integers(-BIGINT, BIGINT) | AMOUNTS)
@example(1_000_000)
def test_integers_are_written_as_prometheus_client_writes_floats(value: int) -> None:
    assert number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


@given(st.integers(-BIGINT, BIGINT) | MOMENTS | st.integers(10**12, 10**13))
@example(1_000_000_000_000)
@example(1_764_000_123_450)
@example(-176_400_012_345)
def test_milliseconds_are_written_as_prometheus_client_writes_seconds(milliseconds: int) -> None:
    assert seconds(milliseconds) == floatToGoString(milliseconds / 1000)  # type: ignore[no-untyped-call]


def test_a_family_of_many_pieces_misses_none_and_repeats_none() -> None:
    metric = METRICS["promgithub_push"]
    rows = [(stored([f"acme/{i}"]), i, i) for i in range(1, 3 * PIECE + 2)]
    written = WrittenCounter(metric, rows)
    assert len(list(written.lines(openmetrics=False))) == 4
    lines = exposition.page(Only(written), openmetrics=False).decode().splitlines()[2:]
    assert lines == [f'promgithub_push_total{{repository="acme/{i}"}} {number(i)}' for i in range(1, 3 * PIECE + 2)]


def snapshot(counters: dict[str, list[CounterRow]], opened: Sequence[OpenCount] = ()) -> Snapshot:
    histograms: dict[str, list[HistogramRow]] = {}
    return Snapshot(5_000, counters, histograms, opened, ())


class Stored:
    """The store's families, once with a registry beside them."""

    def __init__(self, taken: Snapshot, max_series: int = 10) -> None:
        self._taken = taken
        self._max_series = max_series

    def collect(self) -> Iterable[Metric]:
        return families(self._taken, self._max_series)


def test_every_metric_is_introduced_even_without_series() -> None:
    page = exposition.page(Stored(snapshot({})), openmetrics=False).decode()
    types = [line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE")]
    total = {Kind.COUNTER: "_total"}
    assert types == [[f"{name}{total.get(metric.kind, '')}", metric.kind.value] for name, metric in METRICS.items()]


def test_gauges_are_zero_for_what_was_seen_and_bounded_as_the_series_are() -> None:
    counters = {
        "promgithub_workflow_status": [
            (stored(["a", "main", name, "completed", "success"]), 1, 1) for name in ("x", "y", "z")
        ]
    }
    opened = [OpenCount("a", "main", name, "queued", 2, 1_000) for name in ("x", "z")]
    lines = exposition.page(Stored(snapshot(counters, opened), 2), openmetrics=False).decode().splitlines()
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
    counters = {"promgithub_push": [(stored(["acme/gears"]), 3, 1_764_000_000_000)]}
    sources = Together(registry, Stored(snapshot(counters)), registry)
    body = exposition.page(sources, openmetrics=openmetrics, compressed=compressed)
    lines = (gzip.decompress(body) if compressed else body).decode().splitlines()
    assert lines.count("things_total 1.0") == 1
    assert lines.count('promgithub_push_total{repository="acme/gears"} 3.0') == 1
    assert any("_created" in line for line in lines) is openmetrics
    assert [place for place, line in enumerate(lines) if line == "# EOF"] == [len(lines) - 1] * openmetrics
