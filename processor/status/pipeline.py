"""Picks the health of promgithub out of the metrics of this process. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from prometheus_client.core import Metric

from processor.status.quantiles import quantile
from processor.status.views import EventCount, Pipeline, Recovery, Spool, moment

RECOVERY = "promgithub_recovery_last_success_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class _Samples:
    """Samples by name: the labels and the value of each."""

    by_name: Mapping[str, list[tuple[Mapping[str, str], float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, families: Iterable[Metric]) -> "_Samples":
        found: defaultdict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
        for family in families:
            for sample in family.samples:
                found[sample.name].append((sample.labels, sample.value))
        return cls(found)

    def total(self, name: str) -> int:
        return round(sum(value for _, value in self.by_name.get(name, ())))

    def one(self, name: str) -> float | None:
        """Return the value of a metric without labels, or None if it is absent."""
        return next((value for _, value in self.by_name.get(name, ())), None)

    def count(self, name: str) -> int | None:
        value = self.one(name)
        return None if value is None else round(value)

    def by(self, name: str, label: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for labels, value in self.by_name.get(name, ()):
            found[labels[label]] += round(value)
        return found

    def quantile(self, name: str, q: float) -> float | None:
        """Return a quantile of a histogram without labels, or None if it has no observations."""
        buckets = [(labels["le"], value) for labels, value in self.by_name.get(f"{name}_bucket", ())]
        bounds = [float(le) for le, _ in buckets[:-1]]
        reached = [0.0, *(value for _, value in buckets)]
        return quantile(q, bounds, [after - before for before, after in pairwise(reached)])


def pipeline(families: Iterable[Metric], now: datetime, *, leads: bool) -> Pipeline:
    """Return the health in these metrics; `leads` is whether this process exposes the metrics from the store."""
    samples = _Samples.of(families)
    started = samples.one("process_start_time_seconds")
    return Pipeline(
        as_of=now,
        version=next((labels["version"] for labels, _ in samples.by_name.get("promgithub_build_info", ())), ""),
        started_at=_moment(started),
        leader=leads,
        broker_up=bool(samples.one("promgithub_broker_up")),
        database_up=bool(samples.one("promgithub_database_up")),
        queue_depth=samples.count("promgithub_event_queue_depth"),
        queue_capacity=samples.count("promgithub_event_queue_capacity"),
        held=samples.count("promgithub_event_held") or 0,
        oldest_age_seconds=samples.one("promgithub_event_oldest_age_seconds") or 0.0,
        lag_p50_seconds=samples.quantile("promgithub_event_lag_seconds", 0.5),
        lag_p99_seconds=samples.quantile("promgithub_event_lag_seconds", 0.99),
        failures=samples.total("promgithub_event_processing_failures_total"),
        dead_letters=samples.count("promgithub_dead_letters"),
        spool=_spool(samples),
        events=_events(samples),
        recovery=[
            Recovery(task=labels["task"], last_success_at=_moment(value))
            for labels, value in samples.by_name.get(RECOVERY, ())
        ],
    )


def _spool(samples: _Samples) -> Spool | None:
    if not samples.one("promgithub_spool_capacity_bytes"):
        return None
    return Spool(
        deliveries=samples.count("promgithub_spool_deliveries") or 0,
        bytes=samples.count("promgithub_spool_bytes") or 0,
        capacity_bytes=samples.count("promgithub_spool_capacity_bytes") or 0,
        oldest_age_seconds=samples.one("promgithub_spool_oldest_age_seconds") or 0.0,
    )


def _events(samples: _Samples) -> list[EventCount]:
    processed = samples.by("promgithub_event_processed_total", "event_type")
    duplicates = samples.by("promgithub_duplicate_deliveries_dropped_total", "event_type")
    dropped = samples.by("promgithub_event_dropped_total", "event_type")
    last = {
        labels["event_type"]: value
        for labels, value in samples.by_name.get("promgithub_last_event_timestamp_seconds", ())
    }
    return [
        EventCount(
            event=event,
            processed=processed[event],
            duplicates=duplicates[event],
            dropped=dropped[event],
            last_at=_moment(last.get(event)),
        )
        for event in sorted({*processed, *duplicates, *dropped})
    ]


def _moment(seconds: float | None) -> datetime | None:
    return moment(round(seconds * 1000)) if seconds else None
