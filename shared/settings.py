"""Settings: environment variables `PROMGITHUB_…`. For each, `…_FILE` may name a file that contains the value.

This module declares each setting once, with its type, default, meaning and accepted values. Error messages and the
documentation (`promgithub.reference`) are generated from the declarations. An empty variable counts as not set.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.brokers.interface import MAX_HELD_BYTES
from shared.database_urls import PARAMETERS, check_parameters
from shared.errors import SettingsError
from shared.hosts import home_host, parse_host
from shared.logs import FORMATS, LEVELS
from shared.text_files import read_text

PREFIX = "PROMGITHUB_"

SPOOL_MAX_BYTES = 4 * 1024**3
"""Default maximum of a spool, in bytes of payloads."""

OPTIONAL_LABELS = {"job_name", "event"}
"""The labels that the setting LABELS can switch on."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")
_SIZE_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"(\d{1,15})(KiB|MiB|GiB|TiB)?")
_LONGEST = timedelta(days=3650)
_SECRET_PARAMETER = re.compile(r"([^&;=]*(?:pass|secret|token)[^&;=]*=)[^&;]*", re.IGNORECASE)


def parse_duration(text: object) -> timedelta:
    """Parse a duration such as `90s`, `5m`, `12h` or `8d`. Raises `ValueError`."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(str(text).strip())
    if match is None:
        raise ValueError("not a duration")
    duration = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if not timedelta(0) < duration <= _LONGEST:
        raise ValueError("out of range")
    return duration


def format_duration(duration: timedelta) -> str:
    """Format a duration in the largest unit that divides it."""
    seconds = int(duration.total_seconds())
    unit = next(u for u in reversed(_UNITS) if seconds % _UNITS[u] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


class ByteSize(int):
    """A number of bytes. Its text form is the one that `parse_size` accepts, in the largest unit that divides it."""

    def __str__(self) -> str:
        unit = next((unit for unit in reversed(_SIZE_UNITS) if self and self % _SIZE_UNITS[unit] == 0), "")
        return f"{self // _SIZE_UNITS[unit]}{unit}" if unit else int.__repr__(self)


def parse_size(text: object) -> ByteSize:
    """Parse a number of bytes such as `128MiB` or `1000000`. Raises `ValueError`."""
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError("not a size")
    return ByteSize(int(match[1]) * _SIZE_UNITS.get(match[2], 1))


class Url(SecretStr):
    """A URL that may contain a password. Its text form has the password masked."""

    def _display(self) -> str:
        return _masked(self.get_secret_value())


def _checked_url(*schemes: str) -> AfterValidator:
    def check(value: Url) -> Url:
        text = value.get_secret_value()
        if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)) or not _leads_somewhere(urlsplit(text)):
            raise ValueError("not such a URL")
        return value

    return AfterValidator(check)


def _check_database(value: Url) -> Url:
    check_parameters(value.get_secret_value())
    return value


def _leads_somewhere(parts: SplitResult) -> bool:
    """Return whether a URL names a file or a server. Raises `ValueError` if its port is not a number."""
    if parts.scheme == "sqlite":
        return not parts.netloc and len(parts.path) > 1
    # A password with an unencoded / ? or # would be parsed as the host, and the rest of it would not be masked.
    cut_short = parts.fragment or "@" in parts.path + parts.query
    return not cut_short and parts.port != 0 and bool(parts.hostname or "host" in parse_qs(parts.query))


def _masked(url: str) -> str:
    """Return a URL with its passwords masked. libpq and others also accept passwords as URL parameters."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return url
    userinfo, at, host = parts.netloc.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    query = _SECRET_PARAMETER.sub(r"\1***", parts.query)
    return f"{parts.scheme}://{user}{colon and ':***'}{at}{host}{parts.path}{query and f'?{query}'}"


def _checked_pattern(pattern: str) -> str:
    try:
        re.compile(pattern.replace("<default>", "main"))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return pattern


def _setting(default: Any, meaning: str, takes: str, **bounds: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"takes": takes}, **bounds)


def _size(default: int, meaning: str, least: int) -> Any:
    smallest, largest = ByteSize(least), ByteSize(2**50)
    takes = f"a number of bytes, or a number and a unit KiB, MiB, GiB or TiB, from {smallest} to {largest}"
    return _setting(ByteSize(default), meaning, takes, ge=least, le=2**50)


def _host(meaning: str) -> Any:
    return _setting("0.0.0.0", meaning, "an IP address or host name")  # noqa: S104 - a container's own network


def _port(default: int, meaning: str) -> Any:
    return _setting(default, meaning, "a TCP port from 1 to 65535", ge=1, le=65_535)


def _count(default: int, meaning: str, most: int) -> Any:
    return _setting(default, meaning, f"a whole number from 1 to {most}", ge=1, le=most)


HOOK = re.compile(r"app|[\w.-]+/(?:[\w.-]+/)?[0-9]{1,19}", re.ASCII)
"""The name of a hook."""


def _checked_hooks(text: str) -> str:
    for hook in split_list(text):
        if not HOOK.fullmatch(hook):
            raise ValueError("not a hook")
    return text


OWNER = re.compile(r"org:[\w.-]+|repo:[\w.-]+/[\w.-]+", re.ASCII)
"""An owner of runners and of hooks."""


def _checked_runner_lists(text: str) -> str:
    for listed in split_list(text):
        if not OWNER.fullmatch(listed):
            raise ValueError("not a list of runners")
    return text


def _checked_host(text: str) -> str:
    host = parse_host(text)
    if host is None:
        raise ValueError("not a host name")
    return host


def _checked_labels(text: str) -> str:
    if not set(split_list(text)) <= OPTIONAL_LABELS:
        raise ValueError("not an optional label")
    return text


def _checked_bounds(text: str) -> str:
    bounds = [float(bound) for bound in split_list(text)]
    if not bounds or bounds != sorted(set(bounds)) or not all(0 < bound < float("inf") for bound in bounds):
        raise ValueError("not increasing")
    return text


def split_list(text: str) -> tuple[str, ...]:
    """Split a comma-separated list; remove spaces around the items, empty items and duplicates."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]

Size = Annotated[int, BeforeValidator(parse_size), AfterValidator(ByteSize)]

_ENCODED = "special characters of a password percent-encoded"

_TAKES_BOUNDS = "a comma-separated list of increasing bounds that the store has"

_TAKES_DURATION = "a number and a unit s, m, h or d, such as 90s or 8d"


@dataclass(frozen=True, slots=True)
class _Given:
    """The value of a setting in the environment: the text, its source, and its description for an error message."""

    text: str
    source: str
    named: str


class _Environment(PydanticBaseSettingsSource):
    """Reads the variables, and the files named by `…_FILE` variables."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        given = _given(self.settings_cls, field_name)
        return given and given.text, field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        return {name: given.text for name in fields if (given := _given(self.settings_cls, name)) is not None}


class CommonSettings(BaseSettings):
    """The settings that every role has."""

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)

    without_effect: ClassVar[tuple[str, ...]] = ()
    """The fields that have no effect in this role."""

    amqp_url: Annotated[Url, _checked_url("amqp", "amqps")] = _setting(
        Url("amqp://guest:guest@localhost:5672/"),
        "RabbitMQ 3.10 to 4.x",
        f"a URL amqp://… or amqps://…, {_ENCODED}",
    )
    queue_name: str = _setting(
        "promgithub.deliveries",
        "name of the main queue; the dead-letter queue is `<name>.dead`",
        "1 to 200 of the characters A-Z a-z 0-9 . _ -",
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
    )
    event_queue_size: int = _count(
        1_000_000, "maximum length of the main queue; the receiver answers 503 while it is full", 1_000_000_000
    )
    delivery_limit: int = _count(20, "number of redeliveries before the broker dead-letters a delivery", 1_000_000)
    allow_unsafe_queue: bool = _setting(
        False,
        "use the queue even if it exists with arguments by which RabbitMQ could lose deliveries",
        "true or false",
    )
    publish_timeout: Duration = _setting(
        timedelta(seconds=5),
        "timeout of the broker's confirm (GitHub's own timeout is 10 s)",
        "1s to 9s",
        ge=timedelta(seconds=1),
        le=timedelta(seconds=9),
    )
    admin_host: str = _host("address of the admin listener: `/`, `/metrics`, `/livez`, `/readyz`")
    log_level: Annotated[Literal[LEVELS], BeforeValidator(str.lower)] = _setting(  # type: ignore[valid-type]
        "info", "lowest level that is logged", f"one of {', '.join(LEVELS)}"
    )
    log_format: Literal[FORMATS] | None = _setting(  # type: ignore[valid-type]
        None,
        "format of the log lines; if not set, text on a terminal and json elsewhere",
        f"one of {', '.join(FORMATS)}",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read only the variables and the files that they name."""
        return init_settings, _Environment(settings_cls)


class IngestSettings(CommonSettings):
    """The settings of the receiver."""

    webhook_secret: SecretStr | None = _setting(
        None,
        "the webhook's secret; this or `WEBHOOK_SECRET_FILE` is required",
        "the text given to GitHub",
        min_length=1,
    )
    webhook_secret_file: Path | None = _setting(
        None,
        "file with one secret per line, for secret rotation; read again when it changes",
        "the path of a readable file",
    )
    service_host: str = _host("address of the public listener: `POST /webhook`")
    service_port: int = _port(8080, "port of the public listener")
    admin_port: int = _port(8081, "port of `/metrics`, `/livez` and `/readyz`")
    max_in_flight: int = _count(
        1000, "maximum number of requests in progress; the receiver answers further ones with 503", 100_000
    )
    spool_dir: Path | None = _setting(
        None,
        "directory that stores deliveries while the broker is down; if not set, the receiver answers them with 503",
        "the path of a directory that no other receiver uses, on a persistent disk; created if missing",
    )
    spool_max_bytes: Size = _size(SPOOL_MAX_BYTES, "maximum size of the payloads in the spool", 1)


class ProcessorSettings(CommonSettings):
    """The settings of the processor."""

    database_url: Annotated[Url, _checked_url("postgresql", "postgres", "sqlite"), AfterValidator(_check_database)] = (
        _setting(
            Url("postgresql://postgres@localhost:5432/promgithub"),
            "PostgreSQL 13 or newer",
            f"a URL postgresql://…, {_ENCODED}, with no parameters but {', '.join(PARAMETERS)}; or sqlite:///…",
        )
    )
    admin_port: int = _port(8082, "port of `/metrics`, `/livez` and `/readyz`")
    prefetch: int = _count(1000, "maximum number of unacknowledged deliveries of a processor", 65_535)
    batch_size: int = _count(250, "maximum number of deliveries in one transaction", 10_000)
    batch_linger_ms: int = _setting(
        20,
        "longest time that a batch waits for more deliveries, in milliseconds",
        "a whole number from 0 to 10000",
        ge=0,
        le=10_000,
    )
    max_held_bytes: Size = _size(
        MAX_HELD_BYTES,
        "maximum size of the payloads that a processor holds at a time; one delivery at most exceeds it",
        32 * 1024**2,
    )
    event_workers: int = _count(2, "number of batches that a processor handles at the same time", 64)
    delivery_ttl: Duration = _setting(
        timedelta(days=8),
        "how long delivery IDs are kept to detect redeliveries (GitHub redelivers for 3 days, Enterprise Server for 7)",
        _TAKES_DURATION,
    )
    branches: Annotated[str, AfterValidator(_checked_pattern)] = _setting(
        "<default>|main|master|release/.*",
        "branches that become label values; all others become `other`; those of a merge queue are always `merge_queue`",
        "a regular expression; `<default>` stands for the repository's default branch, `.*` matches all",
    )
    status_page: bool = _setting(
        True,
        "serve the status page at `/` of the admin port, and its API; both show names of private repositories",
        "true or false",
    )
    max_series: int = _count(
        10_000,
        "maximum number of series per metric; further ones are counted in the series with label value `__overflow__`",
        10_000_000,
    )
    series_ttl: Duration = _setting(
        timedelta(days=30), "how long a series is kept after its last update", _TAKES_DURATION
    )
    labels: Annotated[str, AfterValidator(_checked_labels)] = _setting(
        "",
        "optional labels: `job_name` (of counters and histograms of jobs, without the values of a matrix) and `event` "
        "(what triggered the run, of counters and histograms of workflows)",
        "a comma-separated list of `job_name` and `event`",
    )
    queue_buckets: Annotated[str, AfterValidator(_checked_bounds)] = _setting(
        "1,2,5,10,30,60,120,300,600,1800,3600,7200,21600",
        "upper bounds of the buckets of queue times, in seconds; they apply to what was counted before, too",
        _TAKES_BOUNDS,
    )
    duration_buckets: Annotated[str, AfterValidator(_checked_bounds)] = _setting(
        "5,15,30,60,120,300,600,1200,1800,3600,7200,14400,21600",
        "upper bounds of the buckets of durations, in seconds; they apply to what was counted before, too",
        _TAKES_BOUNDS,
    )
    runners_file: Path | None = _setting(
        None,
        "TOML file with runner classes and their prices; if not set, GitHub's standard labels and prices",
        "the path of a readable file with tables `[[runner]]`; read at start",
    )
    new_series_seconds: int = _setting(
        150,
        "how long scrapers see a new series as 0, in seconds, so that `increase()` includes its first events: at least "
        "twice the scrape interval plus 15; 0 switches it off",
        "a whole number from 0 to 86400",
        ge=0,
        le=86_400,
    )
    github_token: SecretStr | None = _setting(
        None, "token for GitHub's API, to recover missed deliveries", "a personal access token", min_length=1
    )
    github_app_id: str | None = _setting(
        None,
        "client ID or app ID of a GitHub App, instead of a token",
        "the ID on the App's settings page",
        min_length=1,
    )
    github_app_key: SecretStr | None = _setting(
        None,
        "private key of the App; prefer `…_FILE`",
        "the PEM text that GitHub generated for the App",
        min_length=1,
    )
    github_hooks: Annotated[str, AfterValidator(_checked_hooks)] = _setting(
        "",
        "hooks whose failed deliveries are recovered",
        "a comma-separated list of `OWNER/REPOSITORY/HOOK_ID`, `ORGANISATION/HOOK_ID` or `app`",
    )
    github_runners: Annotated[str, AfterValidator(_checked_runner_lists)] = _setting(
        "",
        "whose self-hosted runners `promgithub_runners` counts; needs a token or an App",
        "a comma-separated list of `org:ORGANISATION` or `repo:OWNER/REPOSITORY`",
    )
    github_api_url: Annotated[Url, _checked_url("https", "http")] = _setting(
        Url("https://api.github.com"),
        "URL of GitHub's API; `https://HOST/api/v3` on Enterprise Server",
        "a URL https://…",
    )
    github_host: Annotated[str, AfterValidator(_checked_host)] | None = _setting(
        None,
        "host whose repositories have no host prefix in label values; if not set, the host of `GITHUB_API_URL` "
        "(`github.com` for `https://api.github.com`)",
        "a host name such as github.com or github.example.com",
    )
    github_api_budget: float = _setting(
        0.5,
        "share of the token's hourly rate limit that promgithub may use",
        "a number greater than 0 and at most 1",
        gt=0,
        le=1,
    )
    reconcile_after: Duration = _setting(
        timedelta(minutes=15),
        "time after the last delivery about an open run or job before reconciliation asks GitHub for its state",
        _TAKES_DURATION,
    )
    grace: Duration = _setting(
        timedelta(minutes=10),
        "time after the last delivery about a run or job before it may be closed as stale, or before increments that "
        "wait for a later delivery are counted",
        _TAKES_DURATION,
    )

    @property
    def home_host(self) -> str:
        """The host whose repositories have no host prefix: `github_host`, or else the host of `github_api_url`."""
        return self.github_host or home_host(self.github_api_url.get_secret_value())


class StandaloneStoreSettings(ProcessorSettings):
    """The settings of the processor in a standalone promgithub."""

    database_url: Annotated[Url, _checked_url("sqlite"), AfterValidator(_check_database)] = _setting(
        Url("sqlite:///promgithub.db"),
        "SQLite file, relative to the data directory",
        "a URL sqlite:///…",
    )
    admin_port: int = _port(8081, "port of `/metrics`, `/livez` and `/readyz`")


class StandaloneSettings(StandaloneStoreSettings, IngestSettings):
    """The settings of a standalone promgithub: those of receiver and processor.

    A spool in the data directory replaces RabbitMQ.
    """

    without_effect: ClassVar = ("amqp_url", "queue_name", "allow_unsafe_queue", "publish_timeout", "spool_dir")


ROLES: Mapping[str, type[CommonSettings]] = {
    "ingest": IngestSettings,
    "processor": ProcessorSettings,
    "standalone": StandaloneSettings,
}

_Settings = TypeVar("_Settings", bound=CommonSettings)


@dataclass(frozen=True, slots=True)
class Effective:
    """The effective value of a setting: the variable, the value with secrets masked, and its source.

    `acts` is False if the setting has no effect in the role.
    """

    variable: str
    value: str
    source: str
    acts: bool


@dataclass(frozen=True, slots=True)
class Described:
    """The declaration of a setting. Secrets in the default are masked; without a default, it is empty."""

    variable: str
    default: str
    meaning: str
    takes: str


def load(settings: type[_Settings]) -> _Settings:
    """Return the settings of a role from the environment.

    Raises `SettingsError` with one line per problem: the variable, its value, and the accepted values.
    """
    loaded, problems = read(settings)
    if problems:
        raise SettingsError("\n".join(problems.values()))
    return loaded


def check(settings: type[CommonSettings]) -> tuple[list[Effective], list[str]]:
    """Return the effective value of each valid setting of a role, and an error message for each invalid one."""
    loaded, problems = read(settings)
    sources = {name: _given(settings, name) for name in settings.model_fields}
    fine = [
        Effective(
            variable(name),
            _shown(_in_effect(loaded, name)),
            given.source if given else "default",
            name not in settings.without_effect,
        )
        for name, given in sources.items()
        if name not in problems
    ]
    return fine, list(problems.values())


def described(settings: type[CommonSettings]) -> Mapping[str, Described]:
    """Return the declaration of every setting of a role, by the name of its field."""
    return {
        name: Described(variable(name), _shown(field.default), field.description or "", _takes(field))
        for name, field in settings.model_fields.items()
    }


def known_variables(*settings: type[CommonSettings]) -> set[str]:
    """Return the names of all variables that some roles read; by default, all roles."""
    roles = settings or tuple(ROLES.values())
    return {name for role in roles for field in role.model_fields for name in _names(field)}


def variable(field: str) -> str:
    """Return the name of the variable of a field."""
    return f"{PREFIX}{field.upper()}"


def _names(field: str) -> tuple[str, ...]:
    return (variable(field),) if field.endswith("_file") else (variable(field), f"{variable(field)}_FILE")


def _takes(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["takes"]) if isinstance(extra, dict) else ""


def read(settings: type[_Settings]) -> tuple[_Settings, Mapping[str, str]]:
    """Return the settings, with the default in place of each invalid value, and the problem of each invalid field."""
    problems = dict(_file_problems(settings))
    try:
        return settings(), problems
    except ValidationError as error:
        wrong = {str(e["loc"][0]): e.get("ctx", {}).get("error") for e in error.errors(include_input=False)}
    problems = {name: _problem(settings, name, reason) for name, reason in wrong.items()} | problems
    defaults = {name: settings.model_fields[name].default for name in wrong}
    return settings(**defaults), {name: problems[name] for name in settings.model_fields if name in problems}


def _environment(name: str) -> str:
    """Return the value of a variable without the blanks and newlines around it, or "" if it is not set."""
    return os.environ.get(name, "").strip()


def _given(settings: type[BaseSettings], name: str) -> _Given | None:
    """Return the value of a field in the environment, or None if it is not set or its file cannot be read."""
    if text := _environment(variable(name)):
        return _Given(text, "environment", repr(text))
    path = _environment(f"{variable(name)}_FILE")
    # If the path itself is a setting, the file is not read here.
    if not path or f"{name}_file" in settings.model_fields or _unusable(path):
        return None
    return _Given(read_text(Path(path)).strip(), "file", f"the content of {path!r}")


def _file_problems(settings: type[CommonSettings]) -> Iterator[tuple[str, str]]:
    """Yield each field whose `…_FILE` variable, or whose absence, is a problem, and the error message."""
    for name, field in settings.model_fields.items():
        file_variable = f"{variable(name)}_FILE"
        path = _environment(file_variable)
        if path and not name.endswith("_file"):
            if _environment(variable(name)):
                yield name, f"{variable(name)}: set, and {file_variable} too; takes one of them"
            elif wrong := _unusable(path):
                takes = f"the path of a file that holds {_takes(field)}"
                yield name, f"{file_variable}: got {path!r} ({wrong}), takes {takes}"
    if issubclass(settings, ProcessorSettings):
        yield from _credential_problems(settings)
    if issubclass(settings, IngestSettings) and not any(map(_environment, _names("webhook_secret"))):
        secret = variable("webhook_secret")
        yield "webhook_secret", f"{secret}: not set; set it, or {secret}_FILE, to the secret given to GitHub"


def _credential_problems(settings: type[CommonSettings]) -> Iterator[tuple[str, str]]:
    """Yield the contradictions in the settings for GitHub's API."""
    token, app, key = (
        any(map(_environment, _names(name))) for name in ("github_token", "github_app_id", "github_app_key")
    )
    if token and (app or key):
        yield "github_token", f"{variable('github_token')}: set, and an App too; takes one of them"
    elif app != key:
        missing = "github_app_key" if app else "github_app_id"
        yield missing, f"{variable(missing)}: not set; an App takes its ID and its private key"
    hooks = _given(settings, "github_hooks")
    if hooks is not None and "app" in split_list(hooks.text) and not app:
        yield "github_hooks", f"{variable('github_hooks')}: has app, which takes {variable('github_app_id')}"
    runners = _given(settings, "github_runners")
    lists = split_list(runners.text) if runners is not None else ()
    if lists and all(map(OWNER.fullmatch, lists)) and not (token or app or key):
        needs = f"{variable('github_token')}, or {variable('github_app_id')} and {variable('github_app_key')}"
        yield "github_runners", f"{variable('github_runners')}: set, and no credential for GitHub; takes {needs}"


def _unusable(path: str) -> str | None:
    try:
        content = read_text(Path(path))
    except OSError as error:
        return error.strerror or "not readable"
    except ValueError as error:
        return str(error)
    return None if content.strip() else "empty"


def _problem(settings: type[CommonSettings], name: str, reason: object) -> str:
    field, given = settings.model_fields[name], _given(settings, name)
    got = "a value that is not shown" if given is None or _is_secret(field) else given.named
    if name == "database_url" and reason is not None:
        got = f"{got} ({reason})"
    return f"{variable(name)}: got {got}, takes {_takes(field)}"


def _is_secret(field: FieldInfo) -> bool:
    kinds = get_args(field.annotation) or (field.annotation,)
    return any(isinstance(kind, type) and issubclass(kind, SecretStr) for kind in kinds)


def _in_effect(loaded: CommonSettings, name: str) -> Any:
    """Return the value of a field, or its computed default if that depends on other fields."""
    if name == "github_host" and isinstance(loaded, ProcessorSettings):
        return loaded.home_host
    return getattr(loaded, name)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return format_duration(value) if isinstance(value, timedelta) else str(value)
