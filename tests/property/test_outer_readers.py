"""The readers of what comes from a service of another shape, from a proxy, from a feed, and in a ticket: as `test_readers.py`."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.property.test_readers import documents

from doorward.adapters.revocations_http import parse_page
from doorward.asgi.handshake import HandshakeReader
from doorward.core.answer import INTROSPECTION, Fields, Invalid, Valid, parse_answer
from doorward.core.credential import Credential, from_message
from doorward.core.ticket import ID_BYTES, Ticket, opened, sealed
from doorward.core.verdict import Code, Deny
from doorward.errors import BadAnswer

LIMITS = settings(max_examples=250, deadline=None)
MAPPED = Fields(valid="ok", user_id="user.id", permissions="user.roles", expires_at="until")
EVERY_200 = Fields(valid="", user_id="id")
KEY = bytes(32)
TICKET = Ticket("a.b.c", "/ws", None, made_at=1.0, until=31.0)
READER = HandshakeReader((), ("10.0.0.0/8", "::1/128"))

names = (
    "active",
    "sub",
    "scope",
    "exp",
    "sid",
    "email",
    "ok",
    "user",
    "user.id",
    "id",
    "roles",
    "until",
    "cache_seconds",
)


@given(documents(*names), st.sampled_from([INTROSPECTION, MAPPED, EVERY_200]))
@example(b'{"active": true, "sub": "ada", "exp": 1e999}', INTROSPECTION)
@LIMITS
def test_an_answer_of_another_shape_is_read_or_is_no_contract(body: bytes, fields: Fields) -> None:
    try:
        answer = parse_answer(body, fields)
    except BadAnswer:
        return
    assert isinstance(answer, Valid | Invalid)
    assert isinstance(answer, Invalid) or (
        answer.user_id and (answer.expires_at is None or 0 <= answer.expires_at < 1e12)
    )


@given(documents("epoch", "cursor", "as_of", "more", "items", "jti", "session_id", "user_id", "not_before"))
@LIMITS
def test_a_page_of_the_feed_is_read_or_is_no_contract(body: bytes) -> None:
    try:
        page = parse_page(body)
    except BadAnswer:
        return
    assert all(item.jti or item.session_id or item.user_id for item in page.items)


@given(st.text(max_size=200) | st.binary(max_size=120).map(lambda raw: raw.decode("latin-1")))
@LIMITS
def test_no_text_is_a_ticket_that_was_not_made_here(text: str) -> None:
    assert opened(text, KEY) is None


@given(st.binary(min_size=ID_BYTES, max_size=ID_BYTES), st.data())
@LIMITS
def test_a_changed_ticket_opens_nothing(identifier: bytes, data: st.DataObject) -> None:
    text = sealed(TICKET, KEY, identifier)
    index = data.draw(st.integers(0, len(text) - 2))  # the last character has bits that stand for nothing
    other = data.draw(st.characters(codec="ascii", categories=["L", "N"]).filter(lambda char: char != text[index]))
    assert opened(text, KEY) == (identifier, TICKET)
    assert opened(text[:index] + other + text[index + 1 :], KEY) is None


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([b"192.0.2.7", b"10.1.2.3, 192.0.2.9:80", b"[2001:db8::1]:443"]))
)
@LIMITS
def test_whatever_a_proxy_forwards_the_client_has_an_address(entries: list[bytes]) -> None:
    headers = [(b"x-forwarded-for", entry) for entry in entries]
    scope = {"type": "websocket", "path": "/ws", "headers": headers, "client": ("10.0.0.1", 1), "scheme": "ws"}
    ip_address(READER.read(scope).address)


@given(st.none() | st.text(max_size=200) | documents("type", "token").map(lambda raw: raw.decode("latin-1")))
@example('{"type": "auth", "token": "a.b.c"}')
@LIMITS
def test_any_first_message_brings_a_token_or_is_refused(text: str | None) -> None:
    found = from_message(text)
    assert isinstance(found, Credential) or found.code in {Code.BAD_CREDENTIAL_FORMAT, Code.MESSAGE_TOO_BIG}
    assert isinstance(found, Credential | Deny)
