"""Every error that promgithub raises on purpose.

PromgithubError
├── SettingsError             a setting is missing or invalid; the text names it, its value and the accepted values
├── ReceiverError             the receiver does not accept requests yet, or not any more
├── BrokerError               a delivery could not be published to the broker
│   ├── BrokerUnavailable     no connection, blocked by an alarm, or no confirm in time; it may still arrive
│   │   └── UnsafeQueue       the queue exists with arguments by which RabbitMQ could lose deliveries
│   ├── QueueFull             the queue has reached its limit and refused the delivery
│   └── MessageTooLarge       the broker accepts no message of this size
├── DeadLetterError           a given dead letter does not exist, or the command ended before it processed all of them
├── GitHubError               a request to GitHub's API failed
│   ├── GitHubUnavailable     GitHub is unreachable or has a fault; a later attempt may succeed
│   └── GitHubRefused         GitHub denied the request; the text says which permission or setting is missing
│       └── NotOnGitHub       the object does not exist, or the token may not read it
├── SetupError                a webhook or a GitHub App could not be set up; the text says why, and what to do
├── RecoveryError             a recovery stopped before it was complete
│   └── BusyError             another process is running the same recovery
├── StoreError                the store cannot be used as it is, for example because of a newer release's schema
│   ├── StoreUnavailable      the database failed, whatever the data; a retry may succeed; `cause` says in a word why
│   │   └── StoreUnusable     an operator must act: the file is no database or may not be used, or an option is wrong
│   └── StoreRefused          the database refused the data itself, and would refuse the same data again
├── OutdatedError             metrics were gathered that this process may no longer expose
├── StatusError               the status of a running promgithub cannot be shown
├── SimulationError           a simulation cannot run, or its result cannot be judged
└── PoisonError               a delivery that can never be processed; `reason` is a short, bounded word for metrics
"""

from traceback import extract_tb
from typing import Literal


class PromgithubError(Exception):
    """The base class of all errors in this module."""


def describe(error: BaseException) -> str:
    """Return a text for the log. Other errors than those of this module may quote data: of them, type and place."""
    if isinstance(error, PromgithubError):
        return str(error)
    places = extract_tb(error.__traceback__)
    where = f" at {places[-1].filename}:{places[-1].lineno}" if places else ""
    return f"promgithub failed: {type(error).__name__}{where}"


class SettingsError(PromgithubError):
    """A setting is missing or invalid."""


class ReceiverError(PromgithubError):
    """The receiver does not accept requests yet, or its process has ended."""


class BrokerError(PromgithubError):
    """A delivery could not be published to the broker."""


class BrokerUnavailable(BrokerError):  # noqa: N818 - the condition is the name
    """The broker cannot be reached, is blocked, or did not confirm in time (the delivery may still arrive)."""


class UnsafeQueue(BrokerUnavailable):
    """The queue exists with arguments by which RabbitMQ could lose deliveries; the text says which."""


class QueueFull(BrokerError):  # noqa: N818
    """The queue has reached its limit and refused the delivery."""


class MessageTooLarge(BrokerError):  # noqa: N818
    """The delivery is larger than the broker accepts."""


class DeadLetterError(PromgithubError):
    """A given dead letter does not exist, or the command ended before it processed all of them."""


class GitHubError(PromgithubError):
    """A request to GitHub's API failed."""


class GitHubUnavailable(GitHubError):  # noqa: N818 - the condition is the name
    """GitHub's API is unreachable or has a fault; a later attempt may succeed."""


class GitHubRefused(GitHubError):  # noqa: N818
    """GitHub's API denied the request; the text says which permission or setting is missing."""


class NotOnGitHub(GitHubRefused):
    """The object does not exist, or the token may not read it. GitHub gives the same answer in both cases."""


class SetupError(PromgithubError):
    """A webhook or a GitHub App could not be set up, or does not answer; the text says why, and what to do."""


class RecoveryError(PromgithubError):
    """A recovery stopped before it was complete."""


class BusyError(RecoveryError):
    """Another process is running the same recovery."""


class StoreError(PromgithubError):
    """The store cannot be used: it is not reachable in time, or its schema is wrong."""


class StoreUnavailable(StoreError):  # noqa: N818 - the condition is the name
    """The database failed for a reason that has nothing to do with the data, so that a retry may succeed.

    `cause` is `connection`, `timeout`, `permission`, `deadlock`, `serialization`, `lock` or `other` (it becomes a label
    value). The text quotes no stored value and no password.
    """

    def __init__(self, text: str, cause: str) -> None:
        super().__init__(text)
        self.cause = cause


class StoreUnusable(StoreUnavailable):
    """The database will not work before an operator changes something. A process does not start with it."""


class StoreRefused(StoreError):  # noqa: N818
    """The database, or its driver, refused the data itself. The text quotes no stored value."""


class OutdatedError(PromgithubError):
    """Metrics were gathered that this process may no longer expose: it lost the lease meanwhile. Gather them again."""


class StatusError(PromgithubError):
    """The status of a running promgithub cannot be shown; the text says where it was looked for, and why not."""


class SimulationError(PromgithubError):
    """A simulation cannot run, or its result cannot be checked; the text says why."""


PoisonReason = Literal["bad_delivery_id", "no_event", "no_repository", "no_status", "refused", "undecodable"]
"""Why a delivery cannot be processed."""


class PoisonError(PromgithubError):
    """A delivery that no retry can process.

    `reason` becomes a label value; `detail` describes the problem.
    """

    def __init__(self, reason: PoisonReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: PoisonReason = reason
        self.detail = detail
