"""Settings: environment variables `PROMGITHUB_…`, each of which may be given as a file (`…_FILE`) instead.

A setting is declared once, here, with its type, default, meaning and what it takes; errors and the documentation
(`markdown`) are made from that. An empty variable counts as not set.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from shared.errors import SettingsError
from shared.logs import FORMATS, LEVELS

PREFIX = "PROMGITHUB_"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")
_LONGEST = timedelta(days=3650)


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


def _checked_url(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        parts = urlsplit(value.get_secret_value())
        parts.port  # noqa: B018 - raises ValueError if it is no number
        if parts.scheme not in schemes or not (parts.hostname or parts.scheme == "sqlite"):
            raise ValueError("not such a URL")
        return value

    return AfterValidator(check)


def _checked_pattern(pattern: str) -> str:
    try:
        re.compile(pattern.replace("<default>", "main"))
    except re.error as error:
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


Url = SecretStr
"""A URL that may contain a password; masked wherever it is shown."""

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]

_TAKES_DURATION = "a number and a unit s, m, h or d, such as 90s or 8d"


class _FileSource(EnvSettingsSource):
    """Reads the variable `…_FILE` and gives the content of the file that it names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = self.env_vars.get(f"{self.env_prefix}{field_name}_file".lower())
        if not path or f"{field_name}_file" in self.settings_cls.model_fields or _unusable(path):
            return None, field_name, False
        return Path(path).read_text("utf-8").rstrip("\r\n"), field_name, False


class CommonSettings(BaseSettings):
    """What every role needs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    amqp_url: Annotated[Url, _checked_url("amqp", "amqps")] = _setting(
        SecretStr("amqp://guest:guest@localhost:5672/"),
        "RabbitMQ 3.10 to 4.x",
        "a URL amqp://… or amqps://…",
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
        return init_settings, env_settings, _FileSource(settings_cls)


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


class ProcessorSettings(CommonSettings):
    """The settings of the processor."""

    database_url: Annotated[Url, _checked_url("postgresql", "postgres", "sqlite")] = _setting(
        SecretStr("postgresql://postgres@localhost:5432/promgithub"),
        "PostgreSQL 13 or newer",
        "a URL postgresql://… or sqlite:///…",
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
        "a regular expression, with <default> for the repository's default branch",
    )
    max_series: int = _count(
        10_000, "series that a metric may have; the rest falls into label value `__overflow__`", 10_000_000
    )
    series_ttl: Duration = _setting(
        timedelta(days=30), "a series that nothing has touched for so long is dropped", _TAKES_DURATION
    )


class StandaloneSettings(ProcessorSettings, IngestSettings):
    """The settings of both in one process. Those of RabbitMQ have no effect there."""

    database_url: Annotated[Url, _checked_url("sqlite")] = _setting(
        SecretStr("sqlite:///promgithub.db"),
        "SQLite file, relative to the data directory",
        "a URL sqlite:///…",
    )
    admin_port: int = _port(8081, "port of `/metrics`, `/livez` and `/readyz`")


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


def load(settings: type[_Settings]) -> _Settings:
    """Return the settings of a role from the environment.

    Raises `SettingsError` with one line per problem: the variable, what it got, and what it takes.
    """
    problems = list(_file_problems(settings))
    try:
        loaded = settings()
    except ValidationError as error:
        problems += [_problem(settings, str(e["loc"][0])) for e in error.errors(include_input=False)]
    if problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))
    return loaded


def unknown_variables() -> list[str]:
    """Return a warning for each variable with our prefix that no setting has, with the likely one."""
    known = {name for settings in ROLES.values() for field in settings.model_fields for name in _names(field)}
    warnings = []
    for name in sorted(n for n in os.environ if n.startswith(PREFIX) and n not in known):
        likely = get_close_matches(name, known, 1)
        warnings.append(f"{name}: no such setting" + (f"; did you mean {likely[0]}?" if likely else ""))
    return warnings


def effective(settings: CommonSettings) -> list[Effective]:
    """Return every setting of a role as it is in effect."""
    return [
        Effective(_variable(name), _shown(getattr(settings, name)), _source(name))
        for name in type(settings).model_fields
    ]


def markdown() -> str:
    """Return the reference of all settings, which is `docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        "Environment variables. Any of them may be given as `…_FILE`, the path of a file that holds the value (a",
        "mounted secret). An empty variable counts as not set. `promgithub check-config` prints what is in effect,",
        "and every problem.",
        "",
        "This page is made from the code by `make docs`.",
    ]
    common = set(CommonSettings.model_fields)
    both = (set(IngestSettings.model_fields) | set(ProcessorSettings.model_fields)) - {"database_url", "admin_port"}
    for title, settings, left_out in (
        ("Every role", CommonSettings, set[str]()),
        ("Receiver (`promgithub ingest`)", IngestSettings, common),
        ("Processor (`promgithub processor`)", ProcessorSettings, common),
        ("Both in one (`promgithub standalone`): all of the above, but", StandaloneSettings, both),
    ):
        lines += ["", f"## {title}", "", "| variable | default | meaning | takes |", "|---|---|---|---|"]
        for name, field in settings.model_fields.items():
            if name not in left_out:
                default = _shown(field.default).replace("|", "\\|")
                shown = f"`{default}`" if default else "none"
                lines.append(f"| `{_variable(name)}` | {shown} | {field.description} | {_takes(field)} |")
    return "\n".join(lines) + "\n"


def _variable(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


def _names(field: str) -> tuple[str, ...]:
    return (_variable(field),) if field.endswith("_file") else (_variable(field), f"{_variable(field)}_FILE")


def _takes(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["takes"]) if isinstance(extra, dict) else ""


def _file_problems(settings: type[CommonSettings]) -> Iterator[str]:
    """Yield what is wrong with the variables that name files, before their content is looked at."""
    for name, field in settings.model_fields.items():
        file_variable = f"{_variable(name)}_FILE"
        path = os.environ.get(file_variable)
        if path and not name.endswith("_file"):
            if os.environ.get(_variable(name)):
                yield f"{_variable(name)}: set, and {file_variable} too; takes one of them"
            elif wrong := _unusable(path):
                yield f"{file_variable}: got {path!r} ({wrong}), takes the path of a file that holds {_takes(field)}"
    if issubclass(settings, IngestSettings) and not any(map(os.environ.get, _names("webhook_secret"))):
        variable = _variable("webhook_secret")
        yield f"{variable}: not set; set it, or {variable}_FILE, to the secret given to GitHub"


def _unusable(path: str) -> str | None:
    try:
        content = Path(path).read_text("utf-8")
    except OSError as error:
        return error.strerror or "not readable"
    except UnicodeDecodeError:
        return "not UTF-8"
    return None if content.strip() else "empty"


def _problem(settings: type[CommonSettings], name: str) -> str:
    field = settings.model_fields[name]
    got = os.environ.get(_variable(name)) or f"the content of {os.environ.get(_variable(name) + '_FILE')}"
    hidden = "SecretStr" in str(field.annotation)
    return f"{_variable(name)}: got {'a value that is not shown' if hidden else repr(got)}, takes {_takes(field)}"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return _masked(value.get_secret_value())
    return format_duration(value) if isinstance(value, timedelta) else str(value)


def _masked(secret: str) -> str:
    parts = urlsplit(secret) if "://" in secret else None
    if parts is None:
        return "***"
    password = parts.password
    if password is None:
        return secret
    return parts._replace(netloc=parts.netloc.replace(f":{password}@", ":***@")).geturl()


def _source(name: str) -> str:
    if os.environ.get(_variable(name)):
        return "environment"
    return "file" if os.environ.get(f"{_variable(name)}_FILE") and not name.endswith("_file") else "default"
