"""The opening handshake of RFC 6455, section 4.2, on a request that the HTTP parser has taken apart already.

Nearly every request that comes is of one shape, and is checked here in one pass. Whatever is not of that shape is websockets' to
judge, which says in words what is wrong with it.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import httptools
from websockets.datastructures import Headers as _Headers
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol

Headers = Sequence[tuple[bytes, bytes]]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_KEY_CHARACTERS = 24
_SWITCHING = 101
_DECISIVE = frozenset(
    {
        b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions",
        b"sec-websocket-protocol", b"origin", b"content-length", b"transfer-encoding",
    }
)  # fmt: skip
"""The header fields that decide. In a plain request each stands once at most, and the last two do not stand at all."""

_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*")
"""A list as RFC 9110, section 5.6.1, has it, without empty members."""


class UpgradeRequest(NamedTuple):
    """A request with `Upgrade: websocket`. `target` as it stood on the request line; names of `headers` in lower case.

    Of HTTP any version will do, as with uvicorn: there are proxies that say 1.0 and mean it well.
    """

    method: str
    target: bytes
    headers: Headers


class Accepted(NamedTuple):
    """A handshake that can be completed. `lines` of the response: those that say that the protocol is switched."""

    lines: bytes
    extensions: list[Extension]


class NotAnUpgrade(Exception):
    """It cannot be completed. `response`: the whole HTTP response that says why; empty where there is none."""

    def __init__(self, response: bytes) -> None:
        super().__init__(response)
        self.response = response


def accepted(request: UpgradeRequest, *, compresses: bool) -> Accepted:
    """What the server answers with if the application accepts.

    Args:
        compresses: is permessage-deflate (RFC 7692) taken where the client offers it?

    Raises:
        NotAnUpgrade
    """
    key = _plain_key(request, compresses=compresses)
    return _by_websockets(request, compresses=compresses) if key is None else Accepted(_lines(_accept_value(key)), [])


def path_and_query(target: bytes) -> tuple[bytes, bytes]:
    """Of a request target in origin-form or absolute-form (RFC 9112, section 3.2). ASCII, as the parser lets nothing else through.

    Raises:
        NotAnUpgrade: it is no URL.
    """
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return path, query
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise NotAnUpgrade(b"") from None
    return url.path or b"/", url.query or b""


def _plain_key(request: UpgradeRequest, *, compresses: bool) -> bytes | None:
    """The key of a request that is certainly in order; `None`: somebody has to look closer."""
    found: dict[bytes, bytes] = {}
    for name, value in request.headers:
        if name in _DECISIVE:
            if name in found:
                return None
            found[name] = value
    key = found.get(b"sec-websocket-key", b"")
    if (
        len(key) != _KEY_CHARACTERS
        or found.get(b"sec-websocket-version") != b"13"
        or found.get(b"connection", b"").lower() not in {b"upgrade", b"keep-alive, upgrade"}
        or found.get(b"upgrade", b"").lower() != b"websocket"
        or b"content-length" in found
        or b"transfer-encoding" in found
        or (compresses and b"sec-websocket-extensions" in found)
        or request.method != "GET"
        or _TOKENS.fullmatch(found.get(b"sec-websocket-protocol", b"x")) is None
    ):
        return None
    try:
        return key if len(binascii.a2b_base64(key, strict_mode=True)) == _KEY_BYTES else None
    except binascii.Error:
        return None


def _accept_value(key: bytes) -> bytes:
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False)


def _lines(accept_value: bytes) -> bytes:
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept_value
        + b"\r\n"
    )


def _by_websockets(request: UpgradeRequest, *, compresses: bool) -> Accepted:
    if any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in request.headers
    ):
        raise NotAnUpgrade(b"")  # it announces a body
    deflate = ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )
    protocol = ServerProtocol(extensions=[deflate] if compresses else None)
    headers = _Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers])
    response = protocol.accept(Request(request.target.decode("latin-1"), headers, request.method))
    protocol.parser.close()  # it holds on to `protocol`, and would wait for the garbage collector
    if response.status_code != _SWITCHING:
        raise NotAnUpgrade(response.serialize())
    lines = _lines(response.headers["Sec-WebSocket-Accept"].encode())
    if "Sec-WebSocket-Extensions" in response.headers:
        lines += b"Sec-WebSocket-Extensions: " + response.headers["Sec-WebSocket-Extensions"].encode() + b"\r\n"
    return Accepted(lines, list(protocol.extensions))
