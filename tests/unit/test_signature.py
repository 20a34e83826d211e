"""A signature is valid only for the same bytes and a configured secret. The check never raises an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.signature import sign, verify

# GitHub docs, "Validating webhook deliveries": testing the webhook payload validation
SECRET = b"It's a Secret to Everybody"
BODY = b"Hello, World!"
SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_githubs_published_example_is_reproduced() -> None:
    assert sign(SECRET, BODY) == SIGNATURE
    assert verify([SECRET], BODY, SIGNATURE)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_any_of_several_secrets_will_do(place: int) -> None:
    secrets = [b"old", b"older"]
    secrets.insert(place, SECRET)
    assert verify(secrets, BODY, SIGNATURE)


def test_without_the_secret_nothing_verifies() -> None:
    assert not verify([b"other"], BODY, SIGNATURE)
    assert not verify([], BODY, SIGNATURE)


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        SIGNATURE.removeprefix("sha256="),
        SIGNATURE.replace("sha256=", "sha1="),
        SIGNATURE.replace("sha256=", "SHA256="),
        SIGNATURE.upper(),
        SIGNATURE[:-1],
        SIGNATURE + "0",
        SIGNATURE + "\n",
        f" {SIGNATURE}",
        f"{SIGNATURE},{SIGNATURE}",
        "sha256=" + "0" * 64,
        "sha256=" + "é" * 32,
        "sha256=\udcff\udcfe",
        "\ud800",
    ],
)
def test_any_other_header_is_refused_and_never_an_error(signature: str | None) -> None:
    assert not verify([SECRET], BODY, signature)


@given(st.one_of(st.none(), st.text(st.characters(codec=None))))
def test_no_header_whatever_is_an_error(signature: str | None) -> None:
    assert not verify([SECRET], BODY, signature)


@given(st.binary(min_size=1), st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_byte_is_noticed(body: bytes, place: int, change: int) -> None:
    changed = bytearray(body)
    changed[place % len(body)] ^= change
    signature = sign(SECRET, body)
    assert verify([SECRET], body, signature)
    assert not verify([SECRET], bytes(changed), signature)
