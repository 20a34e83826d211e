"""The GitHub host of a delivery or an API."""

import pytest

from shared.hosts import LONGEST, enterprise_host, home_host, parse_host, web_url

LABEL = "a" * 63
LONG = ".".join([LABEL, LABEL, LABEL, "b" * 61])


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("ghes.example.com", "ghes.example.com"),
        ("GHES.Example.COM", "ghes.example.com"),
        ("ghes.example.com:8443", "ghes.example.com"),
        ("ghes", "ghes"),
        ("10.0.0.7", "10.0.0.7"),
        ("xn--zo-lja.example", "xn--zo-lja.example"),
        (LONG, LONG),
        (f"{LONG}:65535", LONG),
    ],
)
def test_a_host_is_in_lower_case_and_without_its_port(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " ghes.example.com",
        "ghes.example.com\n",
        "ghes example com",
        "ghes.example.com.",
        ".example.com",
        "ghes..example.com",
        "-ghes.example.com",
        "ghes-.example.com",
        "https://ghes.example.com",
        "ghes.example.com/api/v3",
        "user@ghes.example.com",
        "ghes.example.com:",
        "ghes.example.com:https",
        "ghes.example.com:123456",
        "ghes.example.com, other.example.com",
        "zoë.example.com",
        "\N{KELVIN SIGN}.example.com",
        "ghes.example.com\0",
        f"{LABEL}a.example.com",
        f"{LONG}b",
        "a." * 50_000 + "a",
    ],
)
def test_what_is_no_host_name_is_none(text: str) -> None:
    assert parse_host(text) is None


def test_the_longest_host_name_is_as_long_as_the_domain_name_system_allows() -> None:
    assert len(LONG) == LONGEST == 253


@pytest.mark.parametrize(
    ("api_url", "home", "said_by_webhooks"),
    [
        ("https://api.github.com", "github.com", None),
        ("https://API.GitHub.com/", "github.com", None),
        ("https://api.acme.ghe.com", "acme.ghe.com", None),
        ("https://ghes.example.com/api/v3", "ghes.example.com", "ghes.example.com"),
        ("https://GHES.Example.com:8443/api/v3", "ghes.example.com", "ghes.example.com"),
        ("https://user:pass@ghes.example.com/api/v3", "ghes.example.com", "ghes.example.com"),
        ("https://api.example.com/api/v3", "api.example.com", "api.example.com"),
        ("https://api.github.com.example.com", "api.github.com.example.com", "api.github.com.example.com"),
        ("http://127.0.0.1:8000", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_api_says_which_github_it_serves(api_url: str, home: str, said_by_webhooks: str | None) -> None:
    assert (home_host(api_url), enterprise_host(api_url)) == (home, said_by_webhooks)


@pytest.mark.parametrize(
    ("api_url", "pages"),
    [
        ("https://API.GitHub.com/", "https://github.com"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com"),
        ("https://user:pass@ghes.example.com:8443/api/v3", "https://ghes.example.com:8443"),
        ("https://api.example.com/api/v3", "https://api.example.com"),
    ],
)
def test_an_api_says_where_the_pages_of_its_github_are(api_url: str, pages: str) -> None:
    assert web_url(api_url) == pages
