"""Settings: environment variables `PROMGITHUB_…`, each of which may be given as a file (`…_FILE`) instead.

A setting is declared once, here, with its type, default, meaning and what it takes; errors are made from that, and the
documentation by `promgithub.reference`. An empty variable counts as not set.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.errors import SettingsError
from shared.logs import FORMATS, LEVELS
from shared.spool import MAX_BYTES

PREFIX = "PROMGITHUB_"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")
_LONGEST = timedelta(days=3650)
_SECRET_PARAMETER = re.compile(r"([^&;=]*(?:pass|secret|token)[^&;=]*=)[^&;]*", re.IGNORECASE)


def parse_duration(text: object) -> timedelta:
    """Return the duration that text such as `90s`, `5m`, `12h` or `8d` stands for. Raises `ValueError`."""
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
    """Return a duration in the largest unit that divides it."""
    seconds = int(duration.total_seconds())
    unit = next(u for u in reversed(_UNITS) if seconds % _UNITS[u] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


class Url(SecretStr):
    """A URL that may contain a password, which is masked wherever the URL is shown."""

    def _display(self) -> str:
        return _masked(self.get_secret_value())


def _checked_url(*schemes: str) -> AfterValidator:
    def check(value: Url) -> Url:
        text = value.get_secret_value()
        if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)) or not _leads_somewhere(urlsplit(text)):
            raise ValueError("not such a URL")
        return value

    return AfterValidator(check)


def _leads_somewhere(parts: SplitResult) -> bool:
    """Tell whether a URL names a file or a server. Raises `ValueError` if its port is no number."""
    if parts.scheme == "sqlite":
        return not parts.netloc and len(parts.path) > 1
    # A password with an unencoded / ? or # in it would be taken for the host, and the rest of it be shown.
    cut_short = parts.fragment or "@" in parts.path + parts.query
    return not cut_short and parts.port != 0 and bool(parts.hostname or "host" in parse_qs(parts.query))


def _masked(url: str) -> str:
    """Return a URL without its passwords; libpq and others also take them as parameters."""
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


def _host(meaning: str) -> Any:
    return _setting("0.0.0.0", meaning, "an IP address or host name")  # noqa: S104 - a container's own network


def _port(default: int, meaning: str) -> Any:
    return _setting(default, meaning, "a TCP port from 1 to 65535", ge=1, le=65_535)


def _count(default: int, meaning: str, most: int) -> Any:
    return _setting(default, meaning, f"a whole number from 1 to {most}", ge=1, le=most)


_HOOK = re.compile(r"app|[\w.-]+/(?:[\w.-]+/)?[0-9]{1,19}", re.ASCII)


def _checked_hooks(text: str) -> str:
    for hook in split_list(text):
        if not _HOOK.fullmatch(hook):
            raise ValueError("not a hook")
    return text


def split_list(text: str) -> tuple[str, ...]:
    """Return the parts of a text with commas in between, without the spaces around them, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]

_ENCODED = "special characters of a password percent-encoded"

_TAKES_DURATION = "a number and a unit s, m, h or d, such as 90s or 8d"


@dataclass(frozen=True, slots=True)
class _Given:
    """What the environment says of a setting: the text, where that came from, and how to speak of it in a message."""

    text: str
    source: str
    named: str


class _Environment(PydanticBaseSettingsSource):
    """Reads the variables, and the files that `…_FILE` variables name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what is given for a field, or None."""
        given = _given(self.settings_cls, field_name)
        return given and given.text, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what is given for any field."""
        fields = self.settings_cls.model_fields
        return {name: given.text for name in fields if (given := _given(self.settings_cls, name)) is not None}


class CommonSettings(BaseSettings):
    """What every role needs."""

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)

    amqp_url: Annotated[Url, _checked_url("amqp", "amqps")] = _setting(
        Url("amqp://guest:guest@localhost:5672/"),
        "RabbitMQ 3.10 to 4.x",
        f"a URL amqp://… or amqps://…, {_ENCODED}",
    )
    queue_name: str = _setting(
        "promgithub.deliveries",
        "main queue; the dead-letter queue is `<name>.dead`",
        "1 to 200 of the characters A-Z a-z 0-9 . _ -",
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
    )
    event_queue_size: int = _count(
        1_000_000, "bound of the main queue; full means 503, never silent loss", 1_000_000_000
    )
    delivery_limit: int = _count(20, "broker redeliveries before a delivery is dead-lettered", 1_000_000)
    publish_timeout: Duration = _setting(
        timedelta(seconds=5),
        "deadline of the broker's confirm (GitHub gives up after 10 s)",
        "1s to 9s",
        ge=timedelta(seconds=1),
        le=timedelta(seconds=9),
    )
    admin_host: str = _host("address of `/metrics`, `/livez` and `/readyz`")
    log_level: Annotated[Literal[LEVELS], BeforeValidator(str.lower)] = _setting(  # type: ignore[valid-type]
        "info", "least severe lines that are logged", f"one of {', '.join(LEVELS)}"
    )
    log_format: Literal[FORMATS] | None = _setting(  # type: ignore[valid-type]
        None, "form of the log lines; text on a terminal and json elsewhere unless set", f"one of {', '.join(FORMATS)}"
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
        """Read variables and the files that variables name, and nothing else."""
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
        None, "file with one secret a line (rotation), re-read when it changes", "the path of a readable file"
    )
    service_host: str = _host("address of the public listener: `POST /webhook`")
    service_port: int = _port(8080, "port of the public listener")
    admin_port: int = _port(8081, "port of `/metrics`, `/livez` and `/readyz`")
    max_in_flight: int = _count(1000, "deliveries that a receiver holds unconfirmed before it sheds", 100_000)
    spool_dir: Path | None = _setting(
        None,
        "directory for deliveries that the broker does not take; without it they are answered with 503",
        "the path of a directory of this receiver's own, on a disk that outlives it; made if missing",
    )
    spool_max_bytes: int = _count(MAX_BYTES, "bytes of deliveries that the spool takes", 2**50)


class ProcessorSettings(CommonSettings):
    """The settings of the processor."""

    database_url: Annotated[Url, _checked_url("postgresql", "postgres", "sqlite")] = _setting(
        Url("postgresql://postgres@localhost:5432/promgithub"),
        "PostgreSQL 13 or newer",
        f"a URL postgresql://…, {_ENCODED}, or sqlite:///…",
    )
    admin_port: int = _port(8082, "port of `/metrics`, `/livez` and `/readyz`")
    prefetch: int = _count(1000, "deliveries that a processor holds unacknowledged", 65_535)
    batch_size: int = _count(250, "deliveries counted in one transaction", 10_000)
    batch_linger_ms: int = _setting(
        20, "milliseconds that a delivery waits for company", "a whole number from 0 to 10000", ge=0, le=10_000
    )
    event_workers: int = _count(2, "batches in work at the same time", 64)
    delivery_ttl: Duration = _setting(
        timedelta(days=8),
        "how long a delivery ID is remembered (GitHub redelivers for 3 days, Enterprise Server for 7)",
        _TAKES_DURATION,
    )
    branches: Annotated[str, AfterValidator(_checked_pattern)] = _setting(
        "<default>|main|master|release/.*",
        "branches kept as label values, the others become `other`; `.*` keeps all",
        "a regular expression, with `<default>` for the repository's default branch",
    )
    max_series: int = _count(
        10_000, "series that a metric may have; the rest falls into label value `__overflow__`", 10_000_000
    )
    series_ttl: Duration = _setting(
        timedelta(days=30), "a series that nothing has touched for so long is dropped", _TAKES_DURATION
    )
    github_token: SecretStr | None = _setting(
        None, "token for GitHub's API, with which what was missed is recovered", "a personal access token", min_length=1
    )
    github_app_id: str | None = _setting(
        None, "GitHub App instead of a token: its client ID or app ID", "the ID that the App's page shows", min_length=1
    )
    github_app_key: SecretStr | None = _setting(
        None, "private key of the App, best as `…_FILE`", "the PEM text that GitHub made for the App", min_length=1
    )
    github_hooks: Annotated[str, AfterValidator(_checked_hooks)] = _setting(
        "",
        "hooks whose failed deliveries are recovered",
        "`OWNER/REPOSITORY/HOOK_ID`, `ORGANISATION/HOOK_ID` or `app`, with commas in between",
    )
    github_api_url: Annotated[Url, _checked_url("https", "http")] = _setting(
        Url("https://api.github.com"),
        "GitHub's API; `https://HOST/api/v3` on Enterprise Server",
        "a URL https://…",
    )
    github_api_budget: float = _setting(
        0.5, "share of the token's hourly limit that may be used up", "a number above 0, up to 1", gt=0, le=1
    )
    reconcile_after: Duration = _setting(
        timedelta(minutes=15), "how long a run or job is open without news before GitHub is asked", _TAKES_DURATION
    )


class StandaloneStoreSettings(ProcessorSettings):
    """The settings of the processor in a standalone promgithub."""

    database_url: Annotated[Url, _checked_url("sqlite")] = _setting(
        Url("sqlite:///promgithub.db"),
        "SQLite file, relative to the data directory",
        "a URL sqlite:///…",
    )
    admin_port: int = _port(8081, "port of `/metrics`, `/livez` and `/readyz`")


class StandaloneSettings(StandaloneStoreSettings, IngestSettings):
    """The settings of both in one process. Those of RabbitMQ have no effect there."""


ROLES: Mapping[str, type[CommonSettings]] = {
    "ingest": IngestSettings,
    "processor": ProcessorSettings,
    "standalone": StandaloneSettings,
}

_Settings = TypeVar("_Settings", bound=CommonSettings)


@dataclass(frozen=True, slots=True)
class Effective:
    """A setting in effect: the variable, its value with secrets masked, and where it came from."""

    variable: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Described:
    """A setting as it is declared; the default has its secrets masked, and is empty if there is none."""

    variable: str
    default: str
    meaning: str
    takes: str


def load(settings: type[_Settings]) -> _Settings:
    """Return the settings of a role from the environment.

    Raises `SettingsError` with one line per problem: the variable, what it got, and what it takes.
    """
    loaded, problems = _read(settings)
    if problems:
        raise SettingsError("\n".join(problems.values()))
    return loaded


def check(settings: type[CommonSettings]) -> tuple[list[Effective], list[str]]:
    """Return every setting of a role that is as it should be, as it is in effect, and a line for each that is not."""
    loaded, problems = _read(settings)
    sources = {name: _given(settings, name) for name in settings.model_fields}
    fine = [
        Effective(_variable(name), _shown(getattr(loaded, name)), given.source if given else "default")
        for name, given in sources.items()
        if name not in problems
    ]
    return fine, list(problems.values())


def described(settings: type[CommonSettings]) -> Mapping[str, Described]:
    """Return what there is to know of every setting of a role, by the name of its field."""
    return {
        name: Described(_variable(name), _shown(field.default), field.description or "", _takes(field))
        for name, field in settings.model_fields.items()
    }


def unknown_variables() -> list[str]:
    """Return a warning for each variable with our prefix that no setting has, with the likely one."""
    known = {name for settings in ROLES.values() for field in settings.model_fields for name in _names(field)}
    warnings = []
    for name in sorted(n for n in os.environ if n.startswith(PREFIX) and n not in known):
        likely = get_close_matches(name, known, 1)
        warnings.append(f"{name}: no such setting" + (f"; did you mean {likely[0]}?" if likely else ""))
    return warnings


def _variable(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


def _names(field: str) -> tuple[str, ...]:
    return (_variable(field),) if field.endswith("_file") else (_variable(field), f"{_variable(field)}_FILE")


def _takes(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["takes"]) if isinstance(extra, dict) else ""


def _read(settings: type[_Settings]) -> tuple[_Settings, Mapping[str, str]]:
    """Return the settings, with the default in place of whatever is wrong, and the problem of each such field."""
    problems = dict(_file_problems(settings))
    try:
        return settings(), problems
    except ValidationError as error:
        wrong = [str(e["loc"][0]) for e in error.errors(include_input=False)]
    problems = {name: _problem(settings, name) for name in wrong} | problems
    defaults = {name: settings.model_fields[name].default for name in wrong}
    return settings(**defaults), {name: problems[name] for name in settings.model_fields if name in problems}


def _given(settings: type[BaseSettings], name: str) -> _Given | None:
    """Return what the environment says of a field, or None if nothing that can be read."""
    variable = _variable(name)
    if text := os.environ.get(variable):
        return _Given(text, "environment", repr(text))
    path = os.environ.get(f"{variable}_FILE")
    # Where the path itself is a setting, its content is not read here.
    if not path or f"{name}_file" in settings.model_fields or _unusable(path):
        return None
    return _Given(Path(path).read_text("utf-8").rstrip("\r\n"), "file", f"the content of {path!r}")


def _file_problems(settings: type[CommonSettings]) -> Iterator[tuple[str, str]]:
    """Yield each field for which a variable names a file that cannot be used, and what is wrong with it."""
    for name, field in settings.model_fields.items():
        file_variable = f"{_variable(name)}_FILE"
        path = os.environ.get(file_variable)
        if path and not name.endswith("_file"):
            if os.environ.get(_variable(name)):
                yield name, f"{_variable(name)}: set, and {file_variable} too; takes one of them"
            elif wrong := _unusable(path):
                takes = f"the path of a file that holds {_takes(field)}"
                yield name, f"{file_variable}: got {path!r} ({wrong}), takes {takes}"
    if issubclass(settings, ProcessorSettings):
        yield from _credential_problems(settings)
    if issubclass(settings, IngestSettings) and not any(map(os.environ.get, _names("webhook_secret"))):
        variable = _variable("webhook_secret")
        yield "webhook_secret", f"{variable}: not set; set it, or {variable}_FILE, to the secret given to GitHub"


def _credential_problems(settings: type[CommonSettings]) -> Iterator[tuple[str, str]]:
    """Yield what does not go together in the settings for GitHub's API."""
    token, app, key = (
        any(map(os.environ.get, _names(name))) for name in ("github_token", "github_app_id", "github_app_key")
    )
    if token and (app or key):
        yield "github_token", f"{_variable('github_token')}: set, and an App too; takes one of them"
    elif app != key:
        missing = "github_app_key" if app else "github_app_id"
        yield missing, f"{_variable(missing)}: not set; an App takes its ID and its private key"
    hooks = _given(settings, "github_hooks")
    if hooks is not None and "app" in split_list(hooks.text) and not app:
        yield "github_hooks", f"{_variable('github_hooks')}: has app, which takes {_variable('github_app_id')}"


def _unusable(path: str) -> str | None:
    try:
        content = Path(path).read_text("utf-8")
    except OSError as error:
        return error.strerror or "not readable"
    except UnicodeDecodeError:
        return "not UTF-8"
    return None if content.strip() else "empty"


def _problem(settings: type[CommonSettings], name: str) -> str:
    field, given = settings.model_fields[name], _given(settings, name)
    got = "a value that is not shown" if given is None or _is_secret(field) else given.named
    return f"{_variable(name)}: got {got}, takes {_takes(field)}"


def _is_secret(field: FieldInfo) -> bool:
    kinds = get_args(field.annotation) or (field.annotation,)
    return any(isinstance(kind, type) and issubclass(kind, SecretStr) for kind in kinds)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return format_duration(value) if isinstance(value, timedelta) else str(value)
