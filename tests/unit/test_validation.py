"""The validation of deliveries, which never fails with an unexpected error."""

import json
import tracemalloc
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ingest.outcomes import Refusal, RequestOutcome
from ingest.validation import FORM, JSON, content_type, read_delivery
from shared.delivery import Delivery

GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
HEADERS = {"X-GitHub-Delivery": GUID, "X-GitHub-Event": "workflow_run"}
PASSED_ON = ("X-GitHub-Hook-ID", "X-GitHub-Enterprise-Host")
RECEIVED = 1_795_000_000_000

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


def read(body: bytes = b"{}", kind: str = JSON, **changed: str) -> Delivery:
    headers = HEADERS | {name.replace("_", "-"): value for name, value in changed.items()}
    return read_delivery(CIMultiDict(headers), kind, body, RECEIVED)


def refused(body: bytes = b"{}", kind: str = JSON, **changed: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(body, kind, **changed)
    assert (caught.value.status, caught.value.outcome) == (400, RequestOutcome.BAD_REQUEST)
    return caught.value


def form(payload: bytes) -> bytes:
    return b"payload=" + quote_plus(payload).encode()


def test_a_delivery_is_what_the_headers_and_the_body_say() -> None:
    delivery = read(
        b'{"a": 1}',
        X_GitHub_Hook_ID="292430182",
        X_GitHub_Hook_Installation_Target_Type="repository",
        X_GitHub_Hook_Installation_Target_ID="79929171",
    )
    assert delivery == Delivery(GUID, "workflow_run", b'{"a": 1}', RECEIVED, "292430182", "repository", "79929171")


def test_a_delivery_has_the_host_of_an_enterprise_server_in_lower_case() -> None:
    assert read(X_GitHub_Enterprise_Host="GHES.Example.com").host == "ghes.example.com"
    assert read().host is None


@pytest.mark.parametrize("host", ["", "https://ghes.example.com", "ghes.example.com/", "a" * 254, "zoë.example.com"])
def test_a_host_that_is_no_host_name_is_refused_as_the_ids_would_be_taken_for_those_of_another(host: str) -> None:
    assert "X-GitHub-Enterprise-Host" in refused(X_GitHub_Enterprise_Host=host).error


def test_a_delivery_id_is_in_lower_case_however_it_is_sent() -> None:
    assert read(X_GitHub_Delivery=GUID.upper()).id == GUID


@pytest.mark.parametrize(
    "guid",
    ["", "x", GUID[:-1], GUID + "0", GUID.replace("-", ""), f"{{{GUID}}}", f"urn:uuid:{GUID}", f"{GUID}\n", "é" * 36],
)
def test_a_delivery_id_that_is_no_guid_is_refused(guid: str) -> None:
    assert "X-GitHub-Delivery" in refused(X_GitHub_Delivery=guid).error


@pytest.mark.parametrize("event", ["push", "a", "projects_v2_item", "never_heard_of", "a" * 100])
def test_an_event_need_not_be_known(event: str) -> None:
    assert read(X_GitHub_Event=event).event == event


@pytest.mark.parametrize("event", ["", "Push", "push ", "push\n", "_push", "1push", "push.x", "#", "a" * 101, "púsh"])
def test_an_event_that_is_no_name_is_refused(event: str) -> None:
    assert "X-GitHub-Event" in refused(X_GitHub_Event=event).error


@pytest.mark.parametrize("value", ["", "two words", "a" * 101, "\udcff\udcfe", "é", "tab\t"])
def test_an_odd_header_that_is_only_passed_on_is_left_out(value: str) -> None:
    delivery = read(X_GitHub_Hook_ID=value, X_GitHub_Hook_Installation_Target_Type=value)
    assert (delivery.hook_id, delivery.target_type) == (None, None)


@given(st.dictionaries(st.text(), JSON_VALUES), st.booleans(), st.booleans())
def test_every_json_object_is_published_as_it_came(content: dict[str, Any], ascii_only: bool, spaced: bool) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    try:
        body = json.dumps(content, ensure_ascii=ascii_only, separators=separators).encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair has no UTF-8
    assert read(body).body == body
    assert read(form(body), FORM).body == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"1",
        b'"text"',
        b"[]",
        b"[{}]",
        b"{",
        b"{}{}",
        b"{} x",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":01}',
        b'{"a":tru}',
        b'{"a":"\x01"}',
        b'{"a":"\\x"}',
        b'{"a":"\xff"}',
        b'{"\xff":1}',
        b'{"a":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b'{"a":1}\x00',
        b"\x1f\x8b\x08\x00",
        '{"a":1}'.encode("utf-16"),
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_is_not_one_json_object_in_utf8_is_refused(body: bytes) -> None:
    assert "payload" in refused(body).error
    refused(form(body), FORM)


def test_a_payload_as_nested_as_any_of_githubs_is_accepted() -> None:
    body = b'{"a":' * 100 + b"{}" + b"}" * 100
    assert read(body).body == body


def read_or_refuse(headers: Mapping[str, str], kind: str, body: bytes) -> Delivery | None:
    try:
        return read_delivery(CIMultiDict(headers), kind, body, RECEIVED)
    except Refusal:
        return None


@given(st.sampled_from([JSON, FORM]), st.binary() | st.text('{}[]":,a1 \\').map(str.encode))
def test_any_bytes_are_a_json_object_or_refused(kind: str, body: bytes) -> None:
    delivery = read_or_refuse(HEADERS, kind, body)
    assert delivery is None or isinstance(json.loads(delivery.body), dict)


@given(st.dictionaries(st.sampled_from([*HEADERS, *PASSED_ON]), st.text(st.characters(codec=None))))
def test_any_headers_make_a_delivery_of_plain_names_or_are_refused(headers: Mapping[str, str]) -> None:
    delivery = read_or_refuse({**HEADERS, **headers}, JSON, b"{}")
    assert delivery is None or f"{delivery.id}{delivery.event}{delivery.hook_id}{delivery.host}".isascii()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"other=%7B%7D",
        b"Payload=%7B%7D",
        b"payload",
        b"payload=",
        b"payload=%7B%7D&payload=%7B%7D",
        b"payload=%7B",
        b"payload=%FF",
        b"payload=%7B%22a%22%3A%22%FF%22%7D",
        b"&" * 20 + b"payload=%7B%7D",
    ],
)
def test_a_form_without_exactly_one_payload_is_refused(body: bytes) -> None:
    refused(body, FORM)


def test_a_form_may_have_other_fields() -> None:
    assert read(b"a=1&payload=%7B%22a%22:+1%7D&b", FORM).body == b'{"a": 1}'


def test_a_form_is_read_as_other_libraries_write_it() -> None:
    payload = json.dumps({"text": "50% & more + ünïcödé = ☃ \n"}, ensure_ascii=False)
    assert read(urlencode({"payload": payload}).encode(), FORM).body == payload.encode()


@given(st.integers(65_500, 65_600), st.text("aé% ", min_size=20))
def test_an_escape_across_pieces_is_one_escape(padding: int, text: str) -> None:
    payload = json.dumps({"a": "x" * padding + text}, ensure_ascii=False).encode()
    assert read(form(payload), FORM).body == payload


def test_reading_a_large_form_takes_no_more_than_a_few_times_its_size() -> None:
    body = b"payload=%7B%22a%22%3A%22" + b"%20" * 1_000_000 + b"%22%7D"
    tracemalloc.start()
    try:
        read(body, FORM)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(body) + 10_000_000


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("Application/JSON;charset=UTF-8", JSON),
        (" application/json ", JSON),
        ("application/x-www-form-urlencoded", FORM),
        ("application/x-www-form-urlencoded; charset=UTF-8", FORM),
    ],
)
def test_the_content_type_is_json_or_form_in_any_spelling(header: str, kind: str) -> None:
    assert content_type(CIMultiDict({"content-type": header})) == kind


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "text/plain; application/json"},
        {"Content-Type": "\udcff"},
        {"Content-Type": JSON, "Content-Encoding": "gzip"},
        {"Content-Type": JSON, "Content-Encoding": "identity, gzip"},
        {"Content-Type": JSON, "Content-Encoding": ""},
    ],
)
def test_any_other_content_type_and_any_coding_is_refused(headers: Mapping[str, str]) -> None:
    with pytest.raises(Refusal) as caught:
        content_type(CIMultiDict(headers))
    assert (caught.value.status, caught.value.outcome) == (415, RequestOutcome.UNSUPPORTED)


def test_the_coding_identity_is_none() -> None:
    assert content_type(CIMultiDict({"Content-Type": JSON, "Content-Encoding": "Identity"})) == JSON
