"""The runner classes in effect, as `promgithub check-config` prints them."""

from collections.abc import Iterator, Sequence

from processor.counting.runner_classes import (
    PRICES_FROM,
    PRICES_PAGE,
    SELF_HOSTED,
    STANDARD_RUNNERS,
    RunnerClass,
    RunnerClasses,
)


def table_lines(runners: RunnerClasses) -> Iterator[str]:
    """Yield a line for each rule, in the order in which they are tried, and for what no rule matches."""
    yield "runner classes (the first match decides):"
    for rule in runners.rules:
        yield f"  {rule.runner_class.name} = {', '.join(rule.labels)}  ({_price(rule.runner_class)})"
    for runner in STANDARD_RUNNERS:
        price = _price(RunnerClass(runner.label, runner.price, runner.free_in_public))
        yield f"  the label itself = {runner.label}  ({price})"
    yield f"  any other job = its labels without {SELF_HOSTED}, sorted  (no price)"
    yield f"  # is a digit. GitHub's prices are those since {PRICES_FROM}, {PRICES_PAGE}"


def class_line(labels: Sequence[str], runners: RunnerClasses) -> str:
    """Return the class of a job with these labels, as a line."""
    runner_class = runners.of(tuple(labels))
    return f"{', '.join(labels)}: runner_class {runner_class.name}  ({_price(runner_class)})"


def _price(runner_class: RunnerClass) -> str:
    if runner_class.price is None:
        return "no price"
    free = ", free in public repositories" if runner_class.free_in_public else ""
    return f"{runner_class.price / 1_000_000:.6f}".rstrip("0").rstrip(".") + f" USD per minute{free}"
