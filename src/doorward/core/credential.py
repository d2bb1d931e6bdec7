"""The one credential of an opening handshake: where it may stand, how it is read, and how it is removed afterwards.

Source: RFC 6750 (bearer tokens), RFC 6455 section 1.9 (subprotocols), RFC 6265bis (`__Host-` cookies).
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections.abc import Iterable, Sequence
from enum import StrEnum
from urllib.parse import unquote

import msgspec

from doorward.core.verdict import Code, Deny, Source

BEARER_PREFIX = "base64url.bearer.authorization.doorward."
OWN_PREFIX = "doorward."
MAX_TOKEN_BYTES = 4_096
MAX_TICKET_BYTES = 7_168
MAX_MESSAGE_BYTES = 16_384
MAX_MESSAGE_TOKEN_BYTES = 8_192
TICKET_PARAMETER = "ticket"
TOKEN_PARAMETER = "access_token"  # noqa: S105 - the parameter's name, RFC 6750 section 2.3
DEFAULT_COOKIE = "__Host-doorward"

_B64TOKEN = f"{string.ascii_letters}{string.digits}-._~+/".encode()
"""`1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`; to look for others takes a fraction of an expression's time."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = " \t"
"""All the white space there is (RFC 9110). A bare `strip()` takes U+00A0 off too, and a sibling domain could then set a cookie
that passes for the `__Host-` one."""

_CARRIERS = frozenset({b"authorization", b"sec-websocket-protocol", b"cookie"})

Headers = Sequence[tuple[bytes, bytes]]


class Transport(StrEnum):
    HEADER = "header"
    SUBPROTOCOL = "subprotocol"
    TICKET = "ticket"
    COOKIE = "cookie"
    QUERY = "query"
    FIRST_MESSAGE = "first_message"


_HEADER, _SUBPROTOCOL, _COOKIE = Transport.HEADER, Transport.SUBPROTOCOL, Transport.COOKIE
"""Looked up once: on Python 3.11 a member of an enum, read from its class, takes as long as a small function."""

ALL_TRANSPORTS = frozenset(Transport)
DEFAULT_TRANSPORTS = frozenset({Transport.HEADER, Transport.SUBPROTOCOL, Transport.TICKET})


class Credential(msgspec.Struct, frozen=True, gc=False):
    """The token as it was presented. `repr` never shows it."""

    token: str
    transport: Transport

    def __repr__(self) -> str:
        return f"Credential(transport={self.transport}, token=...)"


class Presented(msgspec.Struct, frozen=True, gc=False):
    """What the client brought, as ASGI gives it: header names in lower case, subprotocols in the order offered.

    `headers`: those that carry no credential may be missing.
    """

    headers: Headers
    subprotocols: Sequence[str] = ()
    query: bytes = b""


def offers_ours(subprotocols: Iterable[str]) -> bool:
    """Does the client speak our notices and refusal frames?"""
    return any(name.startswith((OWN_PREFIX, BEARER_PREFIX)) for name in subprotocols)


def real_protocols(subprotocols: Iterable[str]) -> list[str]:
    """What may be echoed: everything but the credential carrier."""
    return [name for name in subprotocols if not name.startswith(BEARER_PREFIX)]


def extract(
    presented: Presented, transports: frozenset[Transport] = DEFAULT_TRANSPORTS, *, cookie: str = DEFAULT_COOKIE
) -> Credential | Deny:
    """The credential, or why there is none. A transport that the route does not list is not looked at.

    Two explicit credentials, a repeated header, or one that cannot be read are `BAD_CREDENTIAL_FORMAT`. A cookie counts only
    where no explicit one stands: it is ambient, sent by the browser whoever asked for it.
    """
    found: list[Credential | Deny] = []
    if _HEADER in transports:
        found.extend(_from_header(presented.headers))
    if presented.subprotocols and _SUBPROTOCOL in transports:
        found.extend(_from_subprotocols(presented.subprotocols))
    if presented.query:
        found.extend(_from_query(presented.query, transports))
    if len(found) > 1:
        return _malformed("more than one explicit credential")
    if not found and _COOKIE in transports:
        found = list(_from_cookie(presented.headers, cookie))
        if len(found) > 1:
            return _malformed("the cookie is repeated")
    return found[0] if found else Deny(Code.AUTH_REQUIRED, Source.CREDENTIAL)


def carriers_of(headers: Headers) -> Headers:
    """Those that may carry a credential."""
    return [header for header in headers if header[0] in _CARRIERS]


def scrubbed(
    presented: Presented,
    transports: frozenset[Transport] = ALL_TRANSPORTS,
    *,
    cookie: str = DEFAULT_COOKIE,
    among: Headers | None = None,
) -> Presented:
    """The same without any credential, fit for the app.

    Args:
        transports: of the route; a query parameter is a credential only where the route lists it, and is the app's own elsewhere.
        among: all headers that the client brought, where some of them are missing in `presented`.
    """
    headers, at = list(presented.headers if among is None else among), 0
    for header in presented.headers:
        if header[0] in _CARRIERS:
            at = headers.index(header, at)
            kept = _scrubbed_header(header, cookie)
            if kept is None:
                del headers[at]
            else:
                headers[at] = kept
    query = _scrubbed_query(presented.query, transports) if presented.query else b""
    return Presented(headers, presented.subprotocols and real_protocols(presented.subprotocols), query)


def _scrubbed_header(header: tuple[bytes, bytes], cookie: str) -> tuple[bytes, bytes] | None:
    """One that may carry a credential, without it; `None`: nothing is left."""
    name, value = header
    if name == b"authorization":
        parts = value.split(None, 1)
        return None if parts and parts[0].lower() == b"bearer" else header
    text = value.decode("latin-1")
    if name == b"sec-websocket-protocol":
        kept = ", ".join(real_protocols(_split(text, ",")))
    else:
        pairs = _split(text, ";")
        kept = "; ".join(pair for pair in pairs if pair.partition("=")[0].strip(_SPACE) != cookie)
    return (name, kept.encode("latin-1")) if kept or not value else None


def _malformed(detail: str) -> Deny:
    return Deny(Code.BAD_CREDENTIAL_FORMAT, Source.CREDENTIAL, detail)


def _split(text: str, separator: str) -> list[str]:
    return [part for part in (piece.strip(_SPACE) for piece in text.split(separator)) if part]


def from_message(text: str | None) -> Credential | Deny:
    """The credential of a first message, `{"type": "auth", "token": ...}`, or what is wrong with it; `None`: it was binary."""
    if text is None:
        return _malformed("the first message is not text")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_MESSAGE_BYTES:
        return Deny(
            Code.MESSAGE_TOO_BIG, Source.CREDENTIAL, f"the first message is longer than {MAX_MESSAGE_BYTES} bytes"
        )
    try:
        message = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return _malformed("the first message is not JSON")
    if not isinstance(message, dict) or message.get("type") != "auth" or not isinstance(message.get("token"), str):
        return _malformed('the first message is not {"type": "auth", "token": ...}')
    return checked(message["token"], Transport.FIRST_MESSAGE, MAX_MESSAGE_TOKEN_BYTES)


def checked(token: str, transport: Transport, max_bytes: int = MAX_TOKEN_BYTES) -> Credential | Deny:
    """A token in the form of RFC 6750 and of a bearable length, or what is wrong with it."""
    if len(token) > max_bytes:
        return _malformed(f"the token is longer than {max_bytes} bytes")
    characters = token.rstrip("=")
    if not characters or characters.encode("ascii", "replace").translate(None, _B64TOKEN):
        return _malformed("the token has characters outside RFC 6750's b64token")
    return Credential(token, transport)


def _from_header(headers: Headers) -> Sequence[Credential | Deny]:
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        return (_malformed("the Authorization header is repeated"),) if values else ()
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    return (checked(token.strip(_SPACE), _HEADER),) if scheme.lower() == "bearer" else ()


def _from_subprotocols(subprotocols: Sequence[str]) -> Iterable[Credential | Deny]:
    carriers = [name for name in subprotocols if name.startswith(BEARER_PREFIX)]
    for carrier in carriers:
        if len(carriers) == len(subprotocols):
            yield _malformed(
                "the bearer subprotocol needs a real protocol beside it, which is the one that is answered"
            )
            return
        yield _decoded(carrier.removeprefix(BEARER_PREFIX))


def _decoded(encoded: str) -> Credential | Deny:
    if len(encoded) > MAX_TOKEN_BYTES * 4 // 3 + 4:
        return _malformed(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    if not _BASE64URL.fullmatch(encoded):
        return _malformed("the bearer subprotocol is not base64url without padding")
    try:
        token = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return _malformed("the bearer subprotocol is not base64url of a token")
    return checked(token, Transport.SUBPROTOCOL)


def _from_cookie(headers: Headers, cookie: str) -> Iterable[Credential | Deny]:
    for name, value in headers:
        if name != b"cookie":
            continue
        for pair in _split(value.decode("latin-1"), ";"):
            key, _, token = pair.partition("=")
            if key.strip(_SPACE) == cookie:
                yield checked(token.strip(_SPACE).strip('"'), Transport.COOKIE)


def _from_query(query: bytes, transports: frozenset[Transport]) -> Iterable[Credential | Deny]:
    for pair in query.decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        transport = _parameter(name, transports)
        if transport is Transport.TICKET:
            yield _ticket(unquote(value))
        elif transport is Transport.QUERY:
            yield checked(unquote(value), Transport.QUERY)


def _parameter(name: str, transports: frozenset[Transport]) -> Transport | None:
    """The credential that a query parameter of this name carries here; a framework decodes the name, so that counts too."""
    plain = unquote(name)
    if plain == TICKET_PARAMETER and Transport.TICKET in transports:
        return Transport.TICKET
    if plain == TOKEN_PARAMETER and Transport.QUERY in transports:
        return Transport.QUERY
    return None


def _ticket(ticket: str) -> Credential | Deny:
    if len(ticket) > MAX_TICKET_BYTES or not _BASE64URL.fullmatch(ticket):
        return _malformed("the ticket is not one that was handed out here")
    return Credential(ticket, Transport.TICKET)


def _scrubbed_query(query: bytes, transports: frozenset[Transport]) -> bytes:
    pairs = query.split(b"&")
    kept = [pair for pair in pairs if _parameter(pair.partition(b"=")[0].decode("latin-1"), transports) is None]
    return b"&".join(kept)
