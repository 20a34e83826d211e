"""Each settings error is one line, and never shows a secret."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import SettingsError
from shared.setting_warnings import unknown_variables
from shared.settings import (
    PREFIX,
    CommonSettings,
    IngestSettings,
    ProcessorSettings,
    StandaloneSettings,
    check,
    format_duration,
    load,
    parse_duration,
    split_list,
)

SECRET = "hunter2-correct-horse"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def given_variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PROMGITHUB_WEBHOOK_SECRET", SECRET)
    return monkeypatch


def problems(declared: type[CommonSettings]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(declared)
    return str(caught.value).splitlines()


def test_the_defaults_are_those_of_the_reference(given_variables: pytest.MonkeyPatch) -> None:
    ingest, processor = load(IngestSettings), load(ProcessorSettings)
    assert (ingest.service_port, ingest.admin_port, processor.admin_port) == (8080, 8081, 8082)
    assert (ingest.max_in_flight, ingest.event_queue_size, ingest.delivery_limit) == (1000, 1_000_000, 20)
    assert (processor.prefetch, processor.batch_size, processor.batch_linger_ms, processor.event_workers) == (
        1000,
        250,
        20,
        2,
    )
    assert (processor.delivery_ttl, processor.series_ttl) == (timedelta(days=8), timedelta(days=30))
    assert processor.branches == "<default>|main|master|release/.*"
    assert (processor.home_host, processor.grace) == ("github.com", timedelta(minutes=10))


def test_ingest_refuses_to_start_without_a_secret() -> None:
    (line,) = problems(IngestSettings)
    assert line.startswith("PROMGITHUB_WEBHOOK_SECRET: not set")
    assert load(ProcessorSettings)


@pytest.mark.parametrize(
    ("variable", "value", "takes"),
    [
        ("SERVICE_PORT", "abc", "a TCP port from 1 to 65535"),
        ("SERVICE_PORT", "0", "a TCP port from 1 to 65535"),
        ("SERVICE_PORT", "65536", "a TCP port from 1 to 65535"),
        ("MAX_IN_FLIGHT", "0", "a whole number from 1"),
        ("MAX_IN_FLIGHT", "1.5", "a whole number from 1"),
        ("EVENT_QUEUE_SIZE", "-1", "a whole number from 1"),
        ("QUEUE_NAME", "a b", "A-Z a-z 0-9"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error, critical"),
        ("LOG_FORMAT", "xml", "one of json, text"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_takes(
    given_variables: pytest.MonkeyPatch, variable: str, value: str, takes: str
) -> None:
    given_variables.setenv(f"{PREFIX}{variable}", value)
    (line,) = problems(IngestSettings)
    assert line.startswith(f"{PREFIX}{variable}: got {value!r}, takes ")
    assert takes in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DELIVERY_TTL", "8x"),
        ("DELIVERY_TTL", "0s"),
        ("SERIES_TTL", "forever"),
        ("BRANCHES", "("),
        ("BRANCHES", "a{99999999999999999999}"),
        ("BRANCHES", "(" * 3000 + ")" * 3000),
        ("BATCH_LINGER_MS", "-1"),
        ("BATCH_SIZE", "0"),
        ("EVENT_WORKERS", "65"),
        ("MAX_HELD_BYTES", "31MiB"),
        ("MAX_HELD_BYTES", "128MB"),
        ("MAX_HELD_BYTES", "-1"),
        ("MAX_HELD_BYTES", "1000000TiB"),
        ("ALLOW_UNSAFE_QUEUE", "perhaps"),
        ("MAX_SERIES", "many"),
        ("GITHUB_HOOKS", "gears"),
        ("GITHUB_HOOKS", "acme/gears/7, acme/gears/hooks/7"),
        ("GITHUB_RUNNERS", "acme"),
        ("GITHUB_RUNNERS", "org:acme/gears"),
        ("GITHUB_RUNNERS", "org:acme, repo:gears"),
        ("GITHUB_RUNNERS", "enterprise:acme"),
        ("GITHUB_API_BUDGET", "0"),
        ("GITHUB_API_BUDGET", "1.5"),
        ("RECONCILE_AFTER", "soon"),
        ("GITHUB_HOST", "https://github.example.com"),
        ("GITHUB_HOST", "a" * 254),
        ("GRACE", "0s"),
        ("GRACE", "10"),
    ],
)
def test_a_wrong_value_of_the_processor_is_named(
    given_variables: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    given_variables.setenv(f"{PREFIX}{variable}", value)
    (line,) = problems(ProcessorSettings)
    assert line.startswith(f"{PREFIX}{variable}: got {value!r}, takes ")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"GITHUB_TOKEN": "t", "GITHUB_APP_ID": "1"}, "GITHUB_TOKEN: set, and an App too"),
        ({"GITHUB_APP_ID": "1"}, "GITHUB_APP_KEY: not set; an App takes its ID and its private key"),
        ({"GITHUB_APP_KEY": "k"}, "GITHUB_APP_ID: not set; an App takes its ID and its private key"),
        (
            {"GITHUB_TOKEN": "t", "GITHUB_HOOKS": "acme/7,app"},
            "GITHUB_HOOKS: has app, which takes",
        ),
        (
            {"GITHUB_RUNNERS": "org:acme"},
            "GITHUB_RUNNERS: set, and no credential for GitHub; takes PROMGITHUB_GITHUB_TOKEN",
        ),
    ],
)
def test_credentials_for_github_have_to_go_together(
    given_variables: pytest.MonkeyPatch, given: dict[str, str], problem: str
) -> None:
    for variable, value in given.items():
        given_variables.setenv(f"{PREFIX}{variable}", value)
    (line,) = problems(ProcessorSettings)
    assert line.startswith(f"{PREFIX}{problem}")


def test_hooks_are_given_with_commas_in_between(given_variables: pytest.MonkeyPatch) -> None:
    given_variables.setenv("PROMGITHUB_GITHUB_HOOKS", "acme/gears/7, acme/8 ,acme/gears/7")
    assert split_list(load(ProcessorSettings).github_hooks) == ("acme/gears/7", "acme/8")


@pytest.mark.parametrize("declared", [ProcessorSettings, StandaloneSettings])
@pytest.mark.parametrize(
    ("given", "host"),
    [
        ({}, "github.com"),
        ({"GITHUB_API_URL": "https://api.acme.ghe.com"}, "acme.ghe.com"),
        ({"GITHUB_API_URL": "https://GitHub.Example.com/api/v3"}, "github.example.com"),
        ({"GITHUB_HOST": "GitHub.Example.com"}, "github.example.com"),
        ({"GITHUB_HOST": "github.com", "GITHUB_API_URL": "https://github.example.com/api/v3"}, "github.com"),
    ],
)
def test_the_home_host_is_that_of_the_api_unless_set(
    given_variables: pytest.MonkeyPatch, declared: type[ProcessorSettings], given: dict[str, str], host: str
) -> None:
    for variable, value in given.items():
        given_variables.setenv(f"{PREFIX}{variable}", value)
    assert load(declared).home_host == host
    source = "environment" if "GITHUB_HOST" in given else "default"
    assert effective(declared)["PROMGITHUB_GITHUB_HOST"] == (host, source)


def test_a_wrong_api_is_one_problem_although_the_home_host_follows_from_it(given_variables: pytest.MonkeyPatch) -> None:
    given_variables.setenv("PROMGITHUB_GITHUB_API_URL", "github.example.com")
    (line,) = problems(ProcessorSettings)
    assert line.startswith("PROMGITHUB_GITHUB_API_URL: ")


@pytest.mark.parametrize("declared", [ProcessorSettings, StandaloneSettings])
def test_the_grace_may_be_a_second(given_variables: pytest.MonkeyPatch, declared: type[ProcessorSettings]) -> None:
    given_variables.setenv("PROMGITHUB_GRACE", "1s")
    assert load(declared).grace == timedelta(seconds=1)


def test_every_problem_is_reported_at_once(given_variables: pytest.MonkeyPatch) -> None:
    given_variables.setenv("PROMGITHUB_SERVICE_PORT", "x")
    given_variables.setenv("PROMGITHUB_ADMIN_PORT", "y")
    given_variables.delenv("PROMGITHUB_WEBHOOK_SECRET")
    assert [line.partition(":")[0] for line in problems(IngestSettings)] == [
        "PROMGITHUB_WEBHOOK_SECRET",
        "PROMGITHUB_SERVICE_PORT",
        "PROMGITHUB_ADMIN_PORT",
    ]


def test_an_empty_variable_counts_as_not_set(given_variables: pytest.MonkeyPatch) -> None:
    given_variables.setenv("PROMGITHUB_SERVICE_PORT", "")
    assert load(IngestSettings).service_port == 8080


def test_any_setting_may_be_given_as_a_file(given_variables: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("database_url", "postgresql://u:p@db/x\n"), ("batch_size", "7\n")):
        (tmp_path / name).write_text(value)
        given_variables.setenv(f"{PREFIX}{name.upper()}_FILE", str(tmp_path / name))
    loaded = load(ProcessorSettings)
    assert loaded.database_url.get_secret_value() == "postgresql://u:p@db/x"
    assert loaded.batch_size == 7


def test_the_path_of_the_secrets_is_kept_for_reading_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("one\ntwo\n")
    monkeypatch.setenv("PROMGITHUB_WEBHOOK_SECRET_FILE", str(file))
    loaded = load(IngestSettings)
    assert (loaded.webhook_secret, loaded.webhook_secret_file) == (None, file)


@pytest.mark.parametrize(
    "content", [None, b"", b" \n", b"\xff", b"\xef\xbb\xbfx", "x".encode("utf-16"), b"x\0", b"x" * 70_000]
)
def test_a_file_that_cannot_be_used_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "value"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("PROMGITHUB_WEBHOOK_SECRET_FILE", str(file))
    (line,) = problems(IngestSettings)
    assert line.startswith(f"PROMGITHUB_WEBHOOK_SECRET_FILE: got {str(file)!r}")


def test_a_variable_and_its_file_together_are_a_problem(given_variables: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    given_variables.setenv("PROMGITHUB_WEBHOOK_SECRET_FILE", str(tmp_path / "secret"))
    (line,) = problems(IngestSettings)
    assert "takes one of them" in line


def test_a_wrong_value_in_a_file_is_named_with_the_file(given_variables: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "port"
    file.write_text("abc\n")
    given_variables.setenv("PROMGITHUB_SERVICE_PORT_FILE", str(file))
    (line,) = problems(IngestSettings)
    assert line.startswith(f"PROMGITHUB_SERVICE_PORT: got the content of {str(file)!r}, takes a TCP port")


def test_only_the_documented_names_are_read(given_variables: pytest.MonkeyPatch) -> None:
    given_variables.setenv("promgithub_service_port", "99")
    assert load(IngestSettings).service_port == 8080


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:{}@h/x",
        "postgresql://",
        "postgresql:///x",
        "http://{}",
        "postgresql://u:{}@h:port/x",
        "postgresql://u:{}@h:0/x",
        "postgresql://u:1/{}@h/x",
        "postgresql://u:1?{}@h/x",
        "postgresql://u:1#{}@h/x",
        "postgresql:u:{}@h/x",
        "postgresql://u:{}@[h/x",
        "sqlite://",
        "sqlite:///",
        "sqlite:{}",
    ],
)
def test_a_wrong_url_is_named_and_its_password_not_shown(given_variables: pytest.MonkeyPatch, url: str) -> None:
    given_variables.setenv("PROMGITHUB_DATABASE_URL", url.format(SECRET))
    (line,) = problems(ProcessorSettings)
    assert line.startswith("PROMGITHUB_DATABASE_URL: ")
    assert SECRET not in line


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://u:{}@h/x", "postgres://u:***@h/x"),
        ("postgresql://:{}@h:5433/x?sslmode=require", "postgresql://:***@h:5433/x?sslmode=require"),
        ("postgresql://u:a%2F{}@[::1]/x", "postgresql://u:***@[::1]/x"),
        ("postgresql://u:a@{}@h/x", "postgresql://u:***@h/x"),
        ("postgresql://h/x?user=u&password={}&sslmode=require", "postgresql://h/x?user=u&password=***&sslmode=require"),
        ("postgresql:///x?host=/run/postgresql&password={}", "postgresql:///x?host=/run/postgresql&password=***"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("sqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
    ],
)
def test_a_url_is_used_as_given_and_shown_without_its_password(
    given_variables: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    given_variables.setenv("PROMGITHUB_DATABASE_URL", url.format(SECRET))
    loaded = load(ProcessorSettings)
    assert loaded.database_url.get_secret_value() == url.format(SECRET)
    assert effective(ProcessorSettings)["PROMGITHUB_DATABASE_URL"] == (shown, "environment")
    assert SECRET not in repr(loaded)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ("?sslmod=require", "unknown parameter 'sslmod'"),
        ("?sslmode=yes", "sslmode takes one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("?sslmode=", "sslmode takes one of"),
        ("?sslmode=require&sslmode=disable", "sslmode is given twice"),
        ("?sslmode=require&pool_size=3", "unknown parameter 'pool_size'"),
        ("?target_session_attrs=leader", "target_session_attrs takes one of"),
        ("?statement_cache_size=100", "statement_cache_size takes 0"),
        (
            "?host=one:1&host=other:2",
            "several servers are given as postgresql://user:password@/database?host=one:5432&",
        ),
    ],
)
def test_a_wrong_parameter_of_the_database_is_one_line(
    given_variables: pytest.MonkeyPatch, parameters: str, reason: str
) -> None:
    given_variables.setenv("PROMGITHUB_DATABASE_URL", f"postgresql://u:{SECRET}@h/x{parameters}")
    (line,) = problems(ProcessorSettings)
    assert line.startswith("PROMGITHUB_DATABASE_URL: got a value that is not shown (")
    assert reason in line
    assert "\n" not in line
    assert SECRET not in line


@pytest.mark.parametrize("more", ["", "&target_session_attrs=read-write"])
def test_several_servers_of_a_database_may_be_given(given_variables: pytest.MonkeyPatch, more: str) -> None:
    url = f"postgresql://u:{SECRET}@/x?host=one:1&host=other:2{more}"
    given_variables.setenv("PROMGITHUB_DATABASE_URL", url)
    assert load(ProcessorSettings).database_url.get_secret_value() == url


@pytest.mark.parametrize(
    "query",
    ["host=one&host=other", "host=one:1&host=other", "host=one,other&port=1,2", "host=one:1&host=other:2&port=3"],
)
def test_several_servers_of_a_database_take_a_port_each(given_variables: pytest.MonkeyPatch, query: str) -> None:
    given_variables.setenv("PROMGITHUB_DATABASE_URL", f"postgresql://u:{SECRET}@/x?{query}")
    (line,) = problems(ProcessorSettings)
    assert "several servers are given as postgresql://user:password@/database?host=one:5432&host=other:5432" in line


def test_a_database_in_a_file_takes_no_parameters(given_variables: pytest.MonkeyPatch) -> None:
    given_variables.setenv("PROMGITHUB_DATABASE_URL", "sqlite:///x.db?mode=ro")
    (line,) = problems(ProcessorSettings)
    assert "unknown parameter 'mode'" in line


@pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "\r\n{}\t"])
def test_blanks_and_newlines_around_a_value_are_taken_off(monkeypatch: pytest.MonkeyPatch, around: str) -> None:
    monkeypatch.setenv("PROMGITHUB_WEBHOOK_SECRET", around.format(SECRET))
    monkeypatch.setenv("PROMGITHUB_SERVICE_PORT", around.format("8090"))
    loaded = load(IngestSettings)
    assert loaded.webhook_secret is not None
    assert (loaded.webhook_secret.get_secret_value(), loaded.service_port) == (SECRET, 8090)


def test_a_secret_of_blanks_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMGITHUB_WEBHOOK_SECRET", " \n")
    (line,) = problems(IngestSettings)
    assert line.startswith("PROMGITHUB_WEBHOOK_SECRET: not set")


def effective(declared: type[CommonSettings]) -> dict[str, tuple[str, str]]:
    return {one.variable: (one.value, one.source) for one in check(declared)[0]}


def test_where_a_setting_comes_from_is_told(given_variables: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "size").write_text("7\n")
    given_variables.setenv("PROMGITHUB_BATCH_SIZE_FILE", str(tmp_path / "size"))
    given_variables.setenv("PROMGITHUB_PREFETCH", "70")
    shown = effective(ProcessorSettings)
    assert shown["PROMGITHUB_BATCH_SIZE"] == ("7", "file")
    assert shown["PROMGITHUB_PREFETCH"] == ("70", "environment")
    assert shown["PROMGITHUB_SERIES_TTL"] == ("30d", "default")


def test_a_problem_hides_no_other_setting(given_variables: pytest.MonkeyPatch) -> None:
    given_variables.setenv("PROMGITHUB_SERVICE_PORT", "x")
    given_variables.setenv("PROMGITHUB_QUEUE_NAME", "mine")
    shown = effective(IngestSettings)
    assert shown["PROMGITHUB_QUEUE_NAME"] == ("mine", "environment")
    assert "PROMGITHUB_SERVICE_PORT" not in shown
    assert check(IngestSettings)[1] == problems(IngestSettings)


# Neither a variable nor a file in UTF-8 can hold a surrogate, nor a variable a NUL.
ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    variable=st.sampled_from(["WEBHOOK_SECRET", "AMQP_URL", "DATABASE_URL"]),
    form=st.sampled_from(
        ["{}", "amqp://u:{}@h/", "amqps://u:{}@h:5671/ci?heartbeat=5", "postgresql://u:{}@h/x", "sqlite:{}"]
    ),
    around=st.tuples(ANY_TEXT | st.sampled_from(["1/", "1?", "1#", "a@b/", "://", "?a=", "@["]), ANY_TEXT),
    as_file=st.booleans(),
)
def test_no_secret_is_ever_shown(
    tmp_path: Path, variable: str, form: str, around: tuple[str, str], as_file: bool
) -> None:
    secret = f"{around[0]}{SECRET}{around[1]}"
    value = form.format(secret)
    (tmp_path / "value").write_text(value, "utf-8")
    with pytest.MonkeyPatch.context() as environment:
        if as_file:
            environment.setenv(f"{PREFIX}{variable}_FILE", str(tmp_path / "value"))
        else:
            environment.setenv(f"{PREFIX}{variable}", value)
        for declared in (IngestSettings, ProcessorSettings, StandaloneSettings):
            told = [repr(check(declared))]
            try:
                told.append(repr(load(declared)))
            except SettingsError as error:
                told.append(repr(error))
            assert SECRET not in "".join(told)


def test_a_misspelt_variable_is_pointed_out(given_variables: pytest.MonkeyPatch) -> None:
    given_variables.setenv("PROMGITHUB_QEUE_NAME", "x")
    (warning,) = unknown_variables()
    assert "PROMGITHUB_QEUE_NAME" in warning
    assert "PROMGITHUB_QUEUE_NAME" in warning


@given(st.integers(1, 1000), st.sampled_from("smhd"))
def test_durations_are_read_as_they_are_written(number: int, unit: str) -> None:
    duration = parse_duration(f"{number}{unit}")
    assert duration.total_seconds() == number * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]
    assert parse_duration(format_duration(duration)) == duration


@given(st.text(max_size=12))
def test_whatever_is_no_duration_is_refused(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert duration > timedelta(0)


@pytest.mark.parametrize(
    ("given", "size", "shown"),
    [("64MiB", 64 * 2**20, "64MiB"), ("1GiB", 2**30, "1GiB"), ("50000000", 5 * 10**7, "50000000")],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(
    monkeypatch: pytest.MonkeyPatch, given: str, size: int, shown: str
) -> None:
    monkeypatch.setenv("PROMGITHUB_MAX_HELD_BYTES", given)

    fine, problems = check(ProcessorSettings)

    assert load(ProcessorSettings).max_held_bytes == size
    assert not problems
    assert {one.variable: one.value for one in fine}["PROMGITHUB_MAX_HELD_BYTES"] == shown
