from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from doorward.core.credential import (
    BEARER_PREFIX,
    DEFAULT_TRANSPORTS,
    Credential,
    Presented,
    Transport,
    extract,
    from_message,
    offers_ours,
    real_protocols,
    scrubbed,
)
from doorward.core.verdict import Code, Deny

WITH_COOKIE = DEFAULT_TRANSPORTS | {Transport.COOKIE}
TOKEN = "aaa.bbb-_.ccc"


def carrier(token: str | bytes) -> str:
    raw = token.encode() if isinstance(token, str) else token
    return BEARER_PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def header(value: str) -> tuple[bytes, bytes]:
    return b"authorization", value.encode("latin-1")


def cookie(value: str) -> tuple[bytes, bytes]:
    return b"cookie", value.encode("latin-1")


def code_of(found: Credential | Deny) -> Code | None:
    return found.code if isinstance(found, Deny) else None


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
def test_the_authorization_header_is_read(value: str) -> None:
    assert extract(Presented([header(value)])) == Credential(TOKEN, Transport.HEADER)


def test_the_bearer_subprotocol_is_read_beside_a_real_one() -> None:
    presented = Presented([], ["doorward.v1", carrier(TOKEN)])

    assert extract(presented) == Credential(TOKEN, Transport.SUBPROTOCOL)


def test_the_cookie_is_read_where_the_route_lists_it() -> None:
    presented = Presented([cookie(f'theme=dark; __Host-doorward="{TOKEN}"')])

    assert extract(presented, WITH_COOKIE) == Credential(TOKEN, Transport.COOKIE)
    assert code_of(extract(presented)) is Code.AUTH_REQUIRED


def test_an_explicit_credential_goes_before_the_ambient_one() -> None:
    presented = Presented([cookie("__Host-doorward=ambient"), header("Bearer explicit")])

    assert extract(presented, WITH_COOKIE) == Credential("explicit", Transport.HEADER)


def test_a_transport_that_is_not_listed_is_not_looked_at() -> None:
    presented = Presented([header("Bearer !!!")], ["doorward.v1", carrier(TOKEN)])

    assert extract(presented, frozenset({Transport.SUBPROTOCOL})) == Credential(TOKEN, Transport.SUBPROTOCOL)
    assert code_of(extract(presented, frozenset())) is Code.AUTH_REQUIRED


@pytest.mark.parametrize(
    "presented",
    [
        Presented([]),
        Presented([header("Basic dXNlcjpwdw==")]),
        Presented([header("")]),
        Presented([header("Bearer\ttab")]),
        Presented([(b"host", b"door.example")], ["doorward.v1", "graphql-ws"]),
        Presented([cookie("other=1")]),
    ],
)
def test_without_a_credential_one_is_required(presented: Presented) -> None:
    assert code_of(extract(presented, WITH_COOKIE)) is Code.AUTH_REQUIRED


@pytest.mark.parametrize(
    "presented",
    [
        Presented([header("Bearer")]),
        Presented([header("Bearer ")]),
        Presented([header("Bearer two words")]),
        Presented([header("Bearer a,Bearer b")]),
        Presented([header("Bearer caf\xe9")]),
        Presented([header("Bearer a\x00b")]),
        Presented([header("Bearer =a")]),
        Presented([header("Bearer a"), header("Bearer a")]),
        Presented([header("Basic eA=="), header("Bearer a")]),
        Presented([header("Bearer a")], ["doorward.v1", carrier("a")]),
        Presented([header("Bearer a")], ["doorward.v1", BEARER_PREFIX + "!"]),
        Presented([], ["doorward.v1", carrier("a"), carrier("b")]),
        Presented([], ["doorward.v1", carrier("a"), carrier("a")]),
        Presented([], [carrier("a")]),
        Presented([], [carrier("a"), carrier("b")]),
        Presented([], ["doorward.v1", BEARER_PREFIX]),
        Presented([], ["doorward.v1", BEARER_PREFIX + "YQ=="]),
        Presented([], ["doorward.v1", BEARER_PREFIX + "a"]),
        Presented([], ["doorward.v1", BEARER_PREFIX + "a+b/"]),
        Presented([], ["doorward.v1", carrier(b"\xff\xfe")]),
        Presented([], ["doorward.v1", carrier("two words")]),
        Presented([], ["doorward.v1", carrier("")]),
        Presented([], ["doorward.v1", carrier("a" * 1_000_000)]),
        Presented([cookie("__Host-doorward=a; __Host-doorward=b")]),
        Presented([cookie("__Host-doorward=a"), cookie("__Host-doorward=a")]),
        Presented([cookie("__Host-doorward=")]),
        Presented([cookie("__Host-doorward")]),
    ],
)
def test_two_or_a_malformed_one_is_no_credential(presented: Presented) -> None:
    assert code_of(extract(presented, WITH_COOKIE)) is Code.BAD_CREDENTIAL_FORMAT


EVERY = WITH_COOKIE | {Transport.QUERY}


@pytest.mark.parametrize(
    ("transport", "brought"),
    [
        (Transport.HEADER, lambda token: Presented([header(f"Bearer {token}")])),
        (Transport.SUBPROTOCOL, lambda token: Presented([], ["x", carrier(token)])),
        (Transport.COOKIE, lambda token: Presented([cookie(f"__Host-doorward={token}")])),
        (Transport.QUERY, lambda token: Presented([], [], f"access_token={token}".encode())),
    ],
)
def test_a_token_of_a_handshake_has_4_kib_at_most(transport: Transport, brought: Callable[[str], Presented]) -> None:
    assert extract(brought("a" * 4_096), EVERY) == Credential("a" * 4_096, transport)
    assert code_of(extract(brought("a" * 4_097), EVERY)) is Code.BAD_CREDENTIAL_FORMAT


def test_a_ticket_has_7_kib_at_most() -> None:
    brought = [Presented([], [], b"ticket=" + b"a" * size) for size in (7_168, 7_169)]
    assert [code_of(extract(each)) for each in brought] == [None, Code.BAD_CREDENTIAL_FORMAT]


@pytest.mark.parametrize("space", ["\xa0", "\x85", "\x1c", "\x1f", "\x0b", "\x0c"])
def test_a_cookie_whose_name_only_looks_like_ours_is_another_one(space: str) -> None:
    presented = Presented([cookie(f"{space}__Host-doorward=planted")])

    assert code_of(extract(presented, WITH_COOKIE)) is Code.AUTH_REQUIRED
    assert scrubbed(presented).headers == presented.headers


def test_the_refusal_and_the_repr_never_hold_the_token() -> None:
    refused = extract(Presented([header("Bearer s3cret s3cret")]))

    assert isinstance(refused, Deny)
    assert "s3cret" not in repr(refused)
    assert "s3cret" not in repr(extract(Presented([header("Bearer s3cret")])))


def test_what_the_app_sees_holds_no_credential() -> None:
    presented = Presented(
        [
            (b"host", b"door.example"),
            header(f"Bearer {TOKEN}"),
            (b"sec-websocket-protocol", f"doorward.v1, {carrier(TOKEN)}".encode()),
            cookie(f"theme=dark; __Host-doorward={TOKEN}; lang=en"),
        ],
        ["doorward.v1", carrier(TOKEN)],
    )

    assert scrubbed(presented) == Presented(
        [(b"host", b"door.example"), (b"sec-websocket-protocol", b"doorward.v1"), (b"cookie", b"theme=dark; lang=en")],
        ["doorward.v1"],
    )


def test_a_header_that_held_nothing_else_goes_with_the_credential() -> None:
    presented = Presented([cookie(f"__Host-doorward={TOKEN}"), (b"sec-websocket-protocol", carrier(TOKEN).encode())])

    assert scrubbed(presented).headers == []


def test_a_bearer_header_goes_however_it_is_written() -> None:
    assert scrubbed(Presented([header(f"  bearer\t{TOKEN}"), header("Bearer")])).headers == []


def test_what_is_no_credential_of_ours_stays() -> None:
    headers = [header("Basic dXNlcjpwdw=="), (b"cookie", b""), (b"x-empty", b""), cookie("caf\xe9=\xa0")]

    assert scrubbed(Presented(headers)).headers == headers


def test_a_client_of_ours_offers_one_of_our_protocols() -> None:
    assert offers_ours(["graphql-ws", "doorward.v1"]) is True
    assert offers_ours([carrier("a")]) is True
    assert offers_ours(["graphql-ws"]) is False
    assert offers_ours([]) is False
    assert real_protocols(["doorward.v1", carrier("a"), "x"]) == ["doorward.v1", "x"]


# The query string

WITH_QUERY = DEFAULT_TRANSPORTS | {Transport.QUERY}


@pytest.mark.parametrize(
    ("query", "transport", "token"),
    [
        (b"ticket=abc", Transport.TICKET, "abc"),
        (b"a=1&ticket=a-b_c&b", Transport.TICKET, "a-b_c"),
        (b"%74icket=abc", Transport.TICKET, "abc"),
        (b"access_token=aaa.bbb%2B.ccc%3D", Transport.QUERY, "aaa.bbb+.ccc="),
        (b"access_token=aaa+bbb", Transport.QUERY, "aaa+bbb"),
    ],
)
def test_a_credential_in_the_query(query: bytes, transport: Transport, token: str) -> None:
    found = extract(Presented([], [], query), WITH_QUERY)
    assert found == Credential(token, transport)


def test_a_raw_token_in_the_query_counts_only_where_it_is_listed() -> None:
    brought = Presented([], [], b"access_token=" + TOKEN.encode())
    assert code_of(extract(brought)) is Code.AUTH_REQUIRED
    assert scrubbed(brought, DEFAULT_TRANSPORTS) == brought
    assert scrubbed(brought, WITH_QUERY).query == b""


@pytest.mark.parametrize(
    "query",
    [
        b"ticket=",
        b"ticket",
        b"ticket=a~b",
        b"ticket=" + b"a" * 8_000,
        b"ticket=a&ticket=b",
        b"ticket=a&access_token=b",
        b"access_token=%ff",
        b"access_token=a&access_token=a",
    ],
)
def test_a_query_that_is_no_one_credential(query: bytes) -> None:
    assert code_of(extract(Presented([], [], query), WITH_QUERY)) is Code.BAD_CREDENTIAL_FORMAT


def test_the_query_beside_a_header() -> None:
    brought = Presented([header(f"Bearer {TOKEN}")], [], b"ticket=abc")
    assert code_of(extract(brought)) is Code.BAD_CREDENTIAL_FORMAT
    assert extract(brought, frozenset({Transport.HEADER})) == Credential(TOKEN, Transport.HEADER)


def test_only_the_credential_goes_from_the_query() -> None:
    clean = scrubbed(Presented([], [], b"a=1&ticket=abc&&b=%20&access%5Ftoken=x&c"), WITH_QUERY)
    assert clean.query == b"a=1&&b=%20&c"


# The first message


def auth(token: object) -> str:
    return json.dumps({"type": "auth", "token": token})


@pytest.mark.parametrize("token", [TOKEN, "a" * 8_192])
def test_a_first_message(token: str) -> None:
    assert from_message(auth(token)) == Credential(token, Transport.FIRST_MESSAGE)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "hello",
        "[]",
        "{}",
        "null",
        "[" * 3_000,
        "\ud800",
        '{"type": "auth"}',
        '{"type": "Auth", "token": "a"}',
        auth(None),
        auth(1),
        auth(""),
        auth("a b"),
        auth("a" * 8_193),
    ],
)
def test_a_first_message_that_is_none(text: str | None) -> None:
    assert code_of(from_message(text)) is Code.BAD_CREDENTIAL_FORMAT


def padded(size: int, character: str) -> str:
    """A good first message of so many bytes."""
    bare = json.dumps({"type": "auth", "token": TOKEN, "pad": ""})
    count, rest = divmod(size - len(bare), len(character.encode()))
    return bare.replace('"pad": ""', f'"pad": "{character * count}"') + " " * rest


@pytest.mark.parametrize("character", ["a", "é", "😀"])
def test_a_first_message_has_16_kib_at_most(character: str) -> None:
    assert from_message(padded(16_384, character)) == Credential(TOKEN, Transport.FIRST_MESSAGE)
    assert code_of(from_message(padded(16_385, character))) is Code.MESSAGE_TOO_BIG


def test_a_first_message_is_nothing_that_a_handshake_brings() -> None:
    assert code_of(extract(Presented([]), frozenset({Transport.FIRST_MESSAGE}))) is Code.AUTH_REQUIRED
