"""Warnings about settings that are valid but probably not what the operator wants.

A process logs them when it starts, and `promgithub check-config` prints them. `promgithub check-config ROLE` also warns
of settings of other roles. A process does not, because several roles can share an environment file.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches

from shared.settings import PREFIX, ROLES, CommonSettings, ProcessorSettings, known_variables, variable

MIGRATION_PAGE = "docs/migrating-from-upstream.md"
"""The page about the settings of the Go exporter of the same name."""

USUAL_QUEUE_SIZE = 1000
"""A shorter queue can be full after one burst of deliveries: a matrix of 250 jobs causes 750 deliveries or more."""

_GITHUB_WINDOW = timedelta(days=3)  # how long a delivery can be redelivered (GitHub docs, "Redelivering webhooks")
_ENTERPRISE_WINDOW = timedelta(days=7)  # the same page of Enterprise Server

_UPSTREAM: Mapping[str, str] = {
    "REDIS_DELIVERY_TTL": "use PROMGITHUB_DELIVERY_TTL",
    "REDIS_": "there is no Redis; use PROMGITHUB_DATABASE_URL and PROMGITHUB_AMQP_URL, or promgithub standalone",
    "BRANCH_ALLOW_REGEX": "use PROMGITHUB_BRANCHES",
    "NORMALIZE_BRANCHES": "use PROMGITHUB_BRANCHES",
    "DEFAULT_BRANCHES": "use PROMGITHUB_BRANCHES",
    "RELEASE_BRANCH_REGEX": "use PROMGITHUB_BRANCHES",
    "REPO_ALLOWLIST": "choose in GitHub which repositories have the webhook",
    "REPO_DENYLIST": "choose in GitHub which repositories have the webhook",
    "WORKFLOW_ALLOW_REGEX": "drop series in Prometheus",
    "WORKFLOW_DENY_REGEX": "drop series in Prometheus",
    "ENABLE_DETAILED_METRICS": "the labels are always there",
}
"""How the settings of the Go exporter begin that this one does not have, and what to use instead."""


def warnings(loaded: CommonSettings) -> list[str]:
    """Return the warnings about the settings of a role, without those about settings of other roles."""
    return [*unknown_variables(), *_without_effect(loaded), *_doubtful_values(loaded)]


def unknown_variables() -> Iterator[str]:
    """Yield a warning for each variable with our prefix that is not a setting, with what may have been meant."""
    known = known_variables()
    for name in sorted(n for n in os.environ if n.startswith(PREFIX) and n not in known):
        if upstream := next((text for start, text in _UPSTREAM.items() if name.startswith(PREFIX + start)), ""):
            yield f"{name}: a setting of the Go exporter, without effect here; {upstream}; see {MIGRATION_PAGE}"
        else:
            likely = get_close_matches(name, known, 1)
            yield f"{name}: no such setting" + (f"; did you mean {likely[0]}?" if likely else "")


def variables_of_other_roles(role: str) -> Iterator[str]:
    """Yield a warning for each variable that is set and is a setting of other roles only."""
    for name in sorted(known_variables() - known_variables(ROLES[role])):
        if os.environ.get(name):
            yield f"{name}: has no effect in {role}"


def _doubtful_values(loaded: CommonSettings) -> Iterator[str]:
    """Yield a warning for each value that is likely to cause refused, repeated or slow deliveries."""
    if loaded.event_queue_size < USUAL_QUEUE_SIZE:
        yield (
            f"{variable('event_queue_size')}: {loaded.event_queue_size} is small; the receiver answers 503 while so "
            f"many deliveries wait; takes at least {USUAL_QUEUE_SIZE} for one burst, by default 1000000"
        )
    if isinstance(loaded, ProcessorSettings):
        yield from _doubtful_processor(loaded)


def _doubtful_processor(loaded: ProcessorSettings) -> Iterator[str]:
    host = loaded.home_host
    window = _GITHUB_WINDOW if host == "github.com" or host.endswith(".ghe.com") else _ENTERPRISE_WINDOW
    if loaded.delivery_ttl < window:
        yield (
            f"{variable('delivery_ttl')}: shorter than the {window.days} days in which {host} can redeliver; "
            "a later redelivery counts again"
        )
    needed = loaded.event_workers * loaded.batch_size
    if loaded.prefetch < needed:
        yield (
            f"{variable('prefetch')}: {loaded.prefetch} is less than EVENT_WORKERS x BATCH_SIZE = {needed}; "
            f"batches have at most {max(1, loaded.prefetch // loaded.event_workers)} deliveries"
        )


def _without_effect(loaded: CommonSettings) -> Iterator[str]:
    role = next((name for name, settings in ROLES.items() if type(loaded) is settings), "this role")
    for field in sorted(loaded.without_effect):
        if any(map(os.environ.get, (variable(field), f"{variable(field)}_FILE"))):
            yield f"{variable(field)}: has no effect in {role}"
