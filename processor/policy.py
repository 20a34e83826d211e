"""What the settings say about counting and exposing: the policy, and the catalogue that is exposed."""

from pathlib import Path

from processor.counting.catalogue import CATALOGUE, DURATION_BOUNDS, QUEUE_BOUNDS, STORED_BOUNDS
from processor.counting.ci_metrics import Catalogue
from processor.counting.events import Policy
from processor.counting.label_values import BranchPolicy
from processor.counting.runner_classes import RunnerClasses
from processor.counting.runners_file import RunnersFileError, parse_runners
from shared.errors import SettingsError
from shared.settings import PREFIX, ProcessorSettings, split_list


def policy_of(settings: ProcessorSettings) -> Policy:
    """Return the policy. Raises `SettingsError` if RUNNERS_FILE is wrong or cannot be read."""
    return Policy(
        BranchPolicy(settings.branches),
        settings.home_host,
        runner_classes_of(settings.runners_file),
        frozenset(split_list(settings.labels)),
    )


def runner_classes_of(path: Path | None) -> RunnerClasses:
    """Return the runner classes in a file, or GitHub's own without a file. Raises `SettingsError`."""
    if path is None:
        return RunnerClasses()
    try:
        return parse_runners(path.read_text("utf-8-sig"))
    except OSError as error:
        problem = error.strerror or "not readable"
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except RunnersFileError as error:
        problem = str(error)
    raise SettingsError(f"{PREFIX}RUNNERS_FILE: {path}: {problem}")


def exposed_catalogue(settings: ProcessorSettings) -> Catalogue:
    """Return the metrics with the labels and buckets to expose. Raises `SettingsError` if a bound is not stored."""
    buckets = {
        QUEUE_BOUNDS: _bounds("QUEUE_BUCKETS", settings.queue_buckets),
        DURATION_BOUNDS: _bounds("DURATION_BUCKETS", settings.duration_buckets),
    }
    return CATALOGUE.exposing(split_list(settings.labels), buckets)


def _bounds(name: str, text: str) -> tuple[int, ...]:
    """Return the bounds of a setting in milliseconds."""
    bounds = {bound: float(bound) * 1000 for bound in split_list(text)}
    if unknown := [bound for bound, milliseconds in bounds.items() if milliseconds not in STORED_BOUNDS]:
        takes = ", ".join(f"{bound / 1000:.1f}".removesuffix(".0") for bound in STORED_BOUNDS)
        raise SettingsError(f"{PREFIX}{name}: the store has no bound {', '.join(unknown)}, takes some of {takes}")
    return tuple(int(bound) for bound in bounds.values())
