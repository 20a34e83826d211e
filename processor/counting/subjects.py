"""The base class of subjects. A subject is a kind of object in the store, such as runs or jobs. Pure.

The state of an object is the *join* of the facts in all deliveries. Every field of it is a maximum, a minimum, a union
or a logical or. Therefore the order of deliveries, duplicates, and the division into batches do not change the result.
An increment of a metric is counted once, as soon as it is known, with the newest names at that time. A flag of the row
marks it as counted. Nothing is ever subtracted.

A new subject needs a class like `runs.Runs`, a line in `all_subjects.SUBJECTS`, a fact in `events`, and a migration for
its table. The code for loading, locking, saving, closing, settling, deleting and exposing rows is common to all
subjects.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from processor.counting.ci_metrics import CiGauge, CiHistogram, Tally
from processor.counting.flags import SEEN_FLAGS, Flag
from processor.counting.states import Limit, Phase, Seen, StaleReason

K = TypeVar("K", bound=tuple[Any, ...])
S = TypeVar("S", bound=msgspec.Struct)

Labels: TypeAlias = tuple[str, ...]


@dataclass(slots=True)
class Row(Generic[S]):
    """A row of the store while a batch is counted.

    `known` is the state. It is None if the row is new, or if this release cannot read the stored state. The `flags` are
    valid in any case. `loaded` is the state when the row was loaded.
    """

    known: S | None = None
    flags: int = 0
    loaded: S | None = None
    changed: bool = False

    def has(self, flag: Flag) -> bool:
        """Return whether an increment has been counted."""
        return bool(self.flags & flag)

    def first(self, flag: Flag) -> bool:
        """Set a flag; return whether it was not set before."""
        if self.flags & flag:
            return False
        self.flags |= flag
        return True

    def first_seen(self, seen: Seen, status: tuple[str, str]) -> bool:
        """Return whether a state before the end was not counted yet; `seen` has the states when the row was loaded."""
        flag = SEEN_FLAGS.get(status)
        return status not in seen if flag is None else self.first(flag)


class Fact(NamedTuple):
    """A fact in a delivery: a partial state of the object with this key."""

    subject: "Subject[Any, Any]"
    key: tuple[Any, ...]
    told: Any


class Observed(NamedTuple):
    """An observation of a row that was counted: the histogram, the labels of its series, and the value in ms."""

    metric: CiHistogram[Any]
    labels: Labels
    milliseconds: int


class Rows:
    """The rows of a batch, by subject and key.

    `forks` has the runs of these rows (host and run ID) that are known to come from a fork.
    """

    def __init__(self) -> None:
        self.forks: set[tuple[str, int]] = set()
        self._rows: dict[str, dict[tuple[Any, ...], Row[Any]]] = {}

    def of(self, subject: "Subject[K, S]") -> dict[K, Row[S]]:
        """Return the rows of one subject. The caller may add rows."""
        return cast(dict[K, Row[S]], self._rows.setdefault(subject.name, {}))


@dataclass(frozen=True, slots=True)
class Gauges:
    """The gauges of a subject's open rows.

    `phases` has a gauge for each phase that the subject can be open in. All have the same labels, and each label is a
    column of the subject's table. `age`, if there is one, takes the labels at `age_labels` of those, then the phase.
    """

    stem: str
    phases: Mapping[Phase, CiGauge[Any]]
    age: CiGauge[Any] | None = None
    age_labels: tuple[int, ...] = (0,)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The label names of `phases`. They are also column names."""
        return next(iter(self.phases.values())).label_names


class Subject(ABC, Generic[K, S]):
    """A kind of object, such as runs. `key` is a named tuple whose fields are the table's key columns."""

    name: ClassVar[str]
    """The label value `kind`, in the singular. The table is `<name>s`."""

    key: type[K]
    known: type[S]

    gauges: ClassVar[Gauges | None] = None
    """None for a subject whose rows are neither open nor closed."""

    limits: ClassVar[Sequence[Limit]] = ()
    """The limits of its age. Of several that are exceeded, the first one is the reason for closing a row."""

    pending_kinds: ClassVar[Mapping[int, str]] = {}
    """The possible pending increments: the bit in `unsettled`, and the label value `kind`."""

    link_columns: ClassVar[Mapping[str, type]] = {}
    """Further columns that relate rows to other rows; `links` returns their values."""

    @abstractmethod
    def join(self, known: S, told: S) -> S:
        """Return the state after a fact. Commutative, associative and idempotent."""

    @abstractmethod
    def count(self, key: K, row: Row[S], told: Sequence[S], rows: Rows, tally: Tally) -> None:
        """Add the new increments of a row to `tally`, and set its flags; `told` has the batch's facts about it."""

    def touches(
        self, told: Mapping[K, Sequence[S]], rows: Mapping[K, Row[S]]
    ) -> Iterable[tuple["Subject[Any, Any]", tuple[Any, ...]]]:
        """Return the keys of later subjects that counting or settling `rows` needs; `told` has the batch's facts."""
        return ()

    def relate(self, key: K, row: Row[S], rows: Rows) -> None:
        """Exchange with other rows what their states need to know of each other."""

    def unsettled(self, row: Row[S]) -> int:
        """Return the pending increments, as bits of `pending_kinds`."""
        return 0

    def settle(self, key: K, row: Row[S], rows: Rows, tally: Tally) -> None:
        """Add the pending increments to `tally`, and set flags so that none is pending any more."""

    def links(self, known: S) -> Mapping[str, Any]:
        """Return the values of `link_columns`."""
        return {}

    def phase(self, known: S) -> Phase | None:
        """Return the gauge that a row counts in, or None if it is closed."""
        return None

    def since(self, known: S) -> int | None:
        """Return the start of the phase (Unix ms), or None if GitHub did not send it."""
        return None

    def labels(self, known: S) -> Labels:
        """Return the labels of a row in gauges."""
        return ()

    def ended(self, known: S) -> int | None:
        """Return when a closed row ended according to GitHub (Unix ms), or None if that is unknown."""
        return None

    def observed(self, row: Row[S]) -> Iterable[Observed]:
        """Return the observations of a closed row that were counted, under its newest names.

        Rows whose deliveries contradict each other have none, because the state does not say which of them was counted.
        """
        return ()

    def about(self, key: K, known: S | None) -> Mapping[str, Any]:
        """Return the key, the run and the repository of a row by name, for the log."""
        named = dict(zip(self.key.__annotations__, key, strict=True))
        repository = None if known is None else self.repository(known)
        if known is None or repository is None:
            return named
        run = {name: value for name, value in self.links(known).items() if name in {"run_id", "attempt"}}
        return {"repository": repository, **run, **named}

    def repository(self, known: S) -> str | None:
        """Return the repository of a row, as in the label `repository`, or None if the state does not name it."""
        return None

    def shown(self, known: S) -> bool:
        """Return whether gauges show 0 for the labels of a row when no row with these labels is open."""
        return True

    def close(self, known: S, reason: StaleReason) -> S:
        """Return the state, which has a field `stale`, closed as stale.

        A later fact that changes the state reopens or completes it.
        """
        return msgspec.structs.replace(known, stale=reason.value)
