"""What is checked in one pass is never laxer than websockets, and never says anything else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol

from doorward.asgi.upgrade import Accepted, NotAnUpgrade, UpgradeRequest, _plain_key, accepted

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
PLAIN = [
    (b"host", b"a"),
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-key", KEY),
    (b"sec-websocket-version", b"13"),
]

keys = st.one_of(
    st.binary(min_size=16, max_size=16).map(base64.b64encode),
    st.text("AZaz09+/=-_ ", min_size=20, max_size=28).map(str.encode),
    st.just(KEY),
)
values = {
    b"connection": st.sampled_from(
        [b"Upgrade", b"upgrade", b"keep-alive, Upgrade", b"keep-alive", b"close", b",", b""]
    ),
    b"upgrade": st.sampled_from([b"websocket", b"WebSocket", b"h2c", b"websocket, h2c", b""]),
    b"sec-websocket-key": keys,
    b"sec-websocket-version": st.sampled_from([b"13", b"8", b"13, 8", b""]),
    b"sec-websocket-extensions": st.sampled_from([b"permessage-deflate", b"x", b";"]),
    b"sec-websocket-protocol": st.one_of(
        st.sampled_from(
            [b"doorward.v1, base64url.bearer.authorization.doorward.eyJ", b"a,b", b"a b", b"a,,b", b'"a"', b"\xe9"]
        ),
        st.text('aA1-._~,; \t"=', max_size=8).map(lambda text: text.strip(" \t").encode()),
    ),
    b"origin": st.sampled_from([b"http://a", b"null"]),
    b"content-length": st.sampled_from([b"0", b"5"]),
    b"transfer-encoding": st.just(b"chunked"),
    b"x": st.just(b"\xe9"),
}
header = st.sampled_from(sorted(values)).flatmap(lambda name: st.tuples(st.just(name), values[name]))


@st.composite
def requests(draw: st.DrawFn) -> UpgradeRequest:
    """A plain one, with some of it left out, changed or said twice."""
    headers = [(name, draw(st.one_of(st.just(value), values.get(name, st.just(value))))) for name, value in PLAIN]
    headers = [each for each in headers if draw(st.integers(0, 9))] + draw(st.lists(header, max_size=2))
    return UpgradeRequest(draw(st.sampled_from(["GET"] * 5 + ["POST"])), b"/ws", draw(st.permutations(headers)))


def of_websockets(request: UpgradeRequest, *, compresses: bool) -> str | None:
    """The `Sec-WebSocket-Accept` by websockets alone; `None`: refused."""
    headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers])
    protocol = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()] if compresses else None)
    response = protocol.accept(Request("/ws", headers, request.method))
    return response.headers.get("Sec-WebSocket-Accept")


@given(requests(), st.booleans())
@example(UpgradeRequest("GET", b"/ws", PLAIN), False)
def test_it_says_what_websockets_says(request: UpgradeRequest, compresses: bool) -> None:
    announces_body = any(
        name == b"transfer-encoding" or (name, value) == (b"content-length", b"5") for name, value in request.headers
    )
    expected = None if announces_body else of_websockets(request, compresses=compresses)
    answer = answer_to(request, compresses=compresses)
    if isinstance(answer, bytes):
        assert announces_body or answer.startswith(b"HTTP/1.1 4")
        assert expected is None
    else:
        assert b"\r\nSec-WebSocket-Accept: %s\r\n" % str(expected).encode() in answer.lines


def answer_to(request: UpgradeRequest, *, compresses: bool) -> Accepted | bytes:
    """The refusal as bytes."""
    try:
        return accepted(request, compresses=compresses)
    except NotAnUpgrade as refusal:
        return refusal.response


@pytest.mark.parametrize("connection", [b"Upgrade", b"keep-alive, Upgrade"], ids=["Chromium", "Firefox"])
def test_the_handshakes_of_browsers_are_checked_in_one_pass(connection: bytes) -> None:
    headers = [(name, connection if name == b"connection" else value) for name, value in PLAIN]
    assert _plain_key(UpgradeRequest("GET", b"/ws", headers), compresses=False) == KEY


def test_compression_is_agreed_on_where_it_is_wanted_and_offered() -> None:
    offered = UpgradeRequest("GET", b"/ws", [*PLAIN, (b"sec-websocket-extensions", b"permessage-deflate")])
    assert b"Sec-WebSocket-Extensions: permessage-deflate" in accepted(offered, compresses=True).lines
    assert len(accepted(offered, compresses=True).extensions) == 1
    assert b"Extensions" not in accepted(offered, compresses=False).lines


def test_the_answer_is_that_of_the_rfc() -> None:
    """RFC 6455, section 1.3."""
    lines = accepted(UpgradeRequest("GET", b"/ws", PLAIN), compresses=False).lines
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in lines
