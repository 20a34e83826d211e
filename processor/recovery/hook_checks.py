"""What is wrong with a hook, from GitHub's answers about it and its latest deliveries. Pure.

The answers: https://docs.github.com/en/rest/repos/webhooks, https://docs.github.com/en/rest/apps/webhooks.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec

from processor.counting.payloads import milliseconds
from processor.recovery.missing import Attempt

ALL_EVENTS = "*"
"""The event that stands for all events."""


class HookConfig(msgspec.Struct, frozen=True):
    """The configuration of a hook. GitHub masks the secret; without a secret, there is no such field."""

    url: str = ""
    content_type: str = "form"
    insecure_ssl: str | int = "0"
    secret: str | None = None


class LastResponse(msgspec.Struct, frozen=True):
    """The receiver's last answer. A hook without deliveries has the code None."""

    code: int | None = None


class ListedHook(msgspec.Struct, frozen=True):
    """A hook in GitHub's answer. Only hooks of repositories have `last_response`."""

    config: HookConfig
    id: int = 0
    events: tuple[str, ...] = ()
    active: bool = True
    last_response: LastResponse = LastResponse()


class _Account(msgspec.Struct, frozen=True):
    login: str = ""
    type: str = ""


class ListedApp(msgspec.Struct, frozen=True):
    """A GitHub App in GitHub's answer."""

    slug: str
    events: tuple[str, ...] = ()
    owner: _Account = _Account()

    @property
    def page_path(self) -> str:
        """The path of its page in GitHub's settings."""
        place = f"/organizations/{self.owner.login}" if self.owner.type == "Organization" else ""
        return f"{place}/settings/apps/{self.slug}"


def problems(hook: ListedHook, recent: Sequence[Attempt], counted: Collection[str], url: str | None) -> list[str]:
    """Return what is wrong with a hook, each with what to do.

    `recent` has its latest deliveries, the newest first; `counted` the events that it must have; `url` is the payload
    URL that it must have, if that is known.
    """
    return [*_wrong_settings(hook, counted, url), *_failures(hook, recent)]


def _wrong_settings(hook: ListedHook, counted: Collection[str], url: str | None) -> Iterator[str]:
    config = hook.config
    missing = sorted(set(counted) - set(hook.events)) if ALL_EVENTS not in hook.events else []
    if missing:
        yield f"events missing: {', '.join(missing)}; add them"
    if config.content_type != "json":
        yield f"content type {config.content_type}, which makes deliveries larger; choose application/json"
    if not hook.active:
        yield "inactive, so GitHub sends nothing; activate it"
    if str(config.insecure_ssl) != "0":
        yield "SSL verification is off, so somebody in between could read the deliveries; enable it"
    if url is not None and not same_url(config.url, url):
        yield f"the payload URL is {shown_url(config.url)}, not {shown_url(url)}; change it"
    if config.secret is None:
        yield "no secret, so GitHub does not sign and the receiver answers 401; enter that of PROMGITHUB_WEBHOOK_SECRET"


def _failures(hook: ListedHook, recent: Sequence[Attempt]) -> Iterator[str]:
    code = hook.last_response.code
    if recent:
        newest = recent[0]
        code = newest.status_code
        when = f"to the newest delivery ({described(newest)})"
    else:
        when = "to the last delivery"
    if code == HTTPStatus.UNAUTHORIZED and hook.config.secret is not None:
        yield f"the secret differs: the receiver answered 401 {when}; {advice(code)}"
    elif not recent and code is not None and not HTTPStatus.OK <= code < HTTPStatus.MULTIPLE_CHOICES:
        yield f"the receiver answered {code} {when}; {advice(code)}"
    failed = failed_events(recent)
    if failed:
        newest = failed[0]
        yield (
            f"{len(failed)} of the last {len({one.guid for one in recent})} deliveries failed, the newest one: "
            f"{described(newest)}, {outcome(newest)}; {advice(newest.status_code)}. "
            "`promgithub redeliver` recovers what failed"
        )


def failed_events(recent: Sequence[Attempt]) -> list[Attempt]:
    """Return the newest attempt of each event whose attempts all failed, the newest first.

    A failed ping is not one if anything was delivered after it: nobody sends it again.
    """
    succeeded = {one.guid for one in recent if one.succeeded}
    failed: dict[str, Attempt] = {}
    delivered_later = False
    for one in recent:
        if not (one.succeeded or one.guid in succeeded or (delivered_later and one.event == "ping")):
            failed.setdefault(one.guid, one)
        delivered_later = delivered_later or one.succeeded
    return list(failed.values())


def new_ping(recent: Sequence[Attempt], before: Collection[int]) -> Attempt | None:
    """Return the newest ping whose ID is not in `before`, if GitHub lists one."""
    return next((one for one in recent if one.event == "ping" and one.id not in before), None)


def described(attempt: Attempt) -> str:
    """Return the event of an attempt and when it was delivered."""
    at = milliseconds(attempt.delivered_at)
    when = f" at {datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" if at is not None else ""
    return f"{attempt.event}{when}"


def outcome(attempt: Attempt) -> str:
    """Return how an attempt was answered, or why not."""
    code, status = attempt.status_code, attempt.status or "no reason given"
    if not code:
        return f"not answered ({status})"
    reason = "" if attempt.succeeded or str(code) in status else f" ({status})"
    return f"answered with {code}{reason}"


def advice(status_code: int | None) -> str:
    """Return what to do about an attempt that failed with this status; 0 or None if there was no answer."""
    return _ADVICE.get(status_code or 0, "GitHub shows the whole answer under Recent Deliveries")


_NOT_REACHED = (
    "check that the host of the payload URL is public, that its certificate is valid, that the proxy reaches the "
    "receiver, and that the receiver runs"
)

_ADVICE = {
    0: _NOT_REACHED,
    401: "enter the secret of PROMGITHUB_WEBHOOK_SECRET in GitHub",
    404: "the receiver takes deliveries at /webhook; check the path of the payload URL and of the proxy",
    413: "let the proxy accept bodies of 26 MB",
    415: "choose the content type application/json",
    502: _NOT_REACHED,
    503: "the receiver could not keep the delivery; its log and its /readyz say why",
    504: _NOT_REACHED,
}


def same_url(one: str, other: str) -> bool:
    """Return whether two URLs are equal but for the case of scheme and host, and a slash at the end."""
    return _comparable(one) == _comparable(other)


def _comparable(url: str) -> tuple[str, str, str, str]:
    parts = _split(url)
    return parts.scheme.lower(), parts.netloc.lower(), parts.path.rstrip("/"), parts.query


def shown_url(url: str) -> str:
    """Return a URL without what may be a secret: user, password, query and fragment."""
    parts = _split(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url.strip())
    except ValueError:  # invalid brackets
        return SplitResult("", "", "", "", "")
