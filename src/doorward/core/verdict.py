"""The three verdicts, and the table that says what each looks like on the wire.

"No" (`Deny`) and "could not ask" (`Unavailable`) share no type, no code, no metric label and no log line.
The table is here once; the reference page docs/reference/close-codes.md is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Literal


class Code(StrEnum):
    """What the client is told. Stable: clients act on these words."""

    AUTH_REQUIRED = "AUTH_REQUIRED"
    BAD_CREDENTIAL_FORMAT = "BAD_CREDENTIAL_FORMAT"
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 - a word of the protocol
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 - a word of the protocol
    TOKEN_REVOKED = "TOKEN_REVOKED"  # noqa: S105 - a word of the protocol
    TOKEN_REJECTED = "TOKEN_REJECTED"  # noqa: S105 - a word of the protocol
    FORBIDDEN = "FORBIDDEN"
    ORIGIN_DENIED = "ORIGIN_DENIED"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    AUTH_TIMEOUT = "AUTH_TIMEOUT"
    RATE_LIMITED = "RATE_LIMITED"
    MESSAGE_TOO_BIG = "MESSAGE_TOO_BIG"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    OVERLOADED = "OVERLOADED"
    INTERNAL = "INTERNAL"
    RESTARTING = "RESTARTING"


class Cause(StrEnum):
    """Why the auth service could not be asked. Goes with `SERVICE_UNAVAILABLE`."""

    DEADLINE = "deadline"
    UPSTREAM = "upstream"
    BREAKER_OPEN = "breaker_open"
    THROTTLED = "throttled"
    CONFIG = "config"
    PROTOCOL = "protocol"
    KEYSET = "keyset"
    STALE = "stale"
    STORE = "store"


class Action(StrEnum):
    """What a client does about it. `clients/js` obeys the same three words."""

    RETRY = "retry"
    SIGN_IN = "sign_in"
    STOP = "stop"


class Assurance(StrEnum):
    """How sure we are of an admitted principal, strongest first. `test`: nobody real, let in by an E2E test token."""

    LIVE = "live"
    CACHED = "cached"
    LOCAL = "local"
    TEST = "test"


class Source(StrEnum):
    """Which step of the pipeline decided. A metric label, so a closed set."""

    ORIGIN = "origin"
    ADMIT = "admit"
    CREDENTIAL = "credential"
    TICKET = "ticket"
    E2E = "e2e"
    LOCAL = "local"
    REVOKED = "revoked"
    CACHE = "cache"
    REMOTE = "remote"
    PATIENCE = "patience"
    FALLBACK = "fallback"
    POLICY = "policy"
    DRAIN = "drain"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is on the other side. Never holds the token itself.

    `user_id` is one person's at this door: of an issuer with a tenant it is `<tenant>:<subject>`, because two issuers may call
    two people by one name. `expires_at` and `issued_at` are wall-clock seconds (RFC 7519 NumericDate); `None` where an opaque
    token has none.
    """

    user_id: str
    issuer: str
    email: str | None = None
    permissions: frozenset[str] = frozenset()
    session_id: str | None = None
    jti: str | None = None
    issued_at: float | None = None
    expires_at: float | None = None
    tenant: str | None = None

    @property
    def subject(self) -> str:
        """What the issuer itself calls them."""
        return self.user_id if self.tenant is None else self.user_id.removeprefix(f"{self.tenant}:")


def user_id_of(subject: str, tenant: str | None) -> str:
    """One person's id at this door. A tenant has no colon in it, so no two of its own are ever the same."""
    return subject if tenant is None else f"{tenant}:{subject}"


@dataclass(frozen=True, slots=True)
class Allow:
    """Let in. `provisional` means that the auth service was asked and has not answered yet."""

    principal: Principal
    assurance: Assurance
    source: Source
    degraded: bool = False
    provisional: bool = False
    grant_until: float | None = None
    """Wall-clock seconds at which this admission ends, whatever else holds; `None`: when the session says so."""

    verdict: Literal["allow"] = field(default="allow", init=False, repr=False)
    code: ClassVar[None] = None
    detail: ClassVar[str] = ""

    @property
    def reason(self) -> str:
        return f"degraded_{self.assurance}" if self.degraded else str(self.assurance)


@dataclass(frozen=True, slots=True)
class Deny:
    """No: the credential, the origin or the permissions are not good. Never the result of an outage."""

    code: Code
    source: Source
    detail: str = ""
    verdict: Literal["deny"] = field(default="deny", init=False, repr=False)
    assurance: ClassVar[None] = None
    degraded: ClassVar[bool] = False
    provisional: ClassVar[bool] = False

    @property
    def reason(self) -> str:
        return self.code.value.lower()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Could not ask. Says nothing about the credential; the client keeps it and tries again."""

    code: Code
    source: Source
    cause: Cause | None = None
    detail: str = ""
    retry_after_seconds: float | None = None
    """A wait that somebody upstream asked for; the row's own window applies where it is `None`."""
    verdict: Literal["unavailable"] = field(default="unavailable", init=False, repr=False)
    assurance: ClassVar[None] = None
    degraded: ClassVar[bool] = False
    provisional: ClassVar[bool] = False

    @property
    def reason(self) -> str:
        return self.cause.value if self.cause else self.code.value.lower()


Verdict = Allow | Deny | Unavailable


@dataclass(frozen=True, slots=True)
class Row:
    """One situation of the table: what goes over HTTP, what over a close frame, and what the client should do.

    `http` / `close` are `None` where the situation cannot arise before / after the handshake.
    `retry_seconds` is the window of `retry_after_ms`; `None` where waiting mends nothing.
    """

    situation: str
    code: Code
    http: int | None
    close: int | None
    action: Action
    retry_seconds: tuple[float, float] | None = None
    cause: Cause | None = None
    ops: str = ""


_SOON = (1.0, 5.0)

TABLE: tuple[Row, ...] = (
    Row("no credential", Code.AUTH_REQUIRED, 401, 3000, Action.SIGN_IN, ops="deny"),
    Row("malformed, or two explicit credentials", Code.BAD_CREDENTIAL_FORMAT, 400, 1008, Action.STOP, ops="deny"),
    Row(
        "bad signature, aud, iss, typ or alg",
        Code.TOKEN_INVALID,
        401,
        3000,
        Action.SIGN_IN,
        ops="deny; a spike is an attack",
    ),
    Row("expired", Code.TOKEN_EXPIRED, 401, 3000, Action.SIGN_IN, ops="deny"),
    Row("revoked", Code.TOKEN_REVOKED, 401, 3000, Action.SIGN_IN, ops="audit"),
    Row(
        "the auth service refused it, now or before",
        Code.TOKEN_REJECTED,
        401,
        3000,
        Action.SIGN_IN,
        ops="breaker success",
    ),
    Row("authenticated, not permitted", Code.FORBIDDEN, 403, 3003, Action.STOP, ops="deny"),
    Row(
        "origin not allowed",
        Code.ORIGIN_DENIED,
        403,
        None,
        Action.STOP,
        ops="security log: the origin, and the setting that admits it",
    ),
    Row("headers too large for the server", Code.HEADERS_TOO_LARGE, 431, None, Action.STOP, ops="counter"),
    Row("auth frame late", Code.AUTH_TIMEOUT, None, 3008, Action.RETRY, ops="slow-client counter"),
    Row("address limit", Code.RATE_LIMITED, 429, 1013, Action.RETRY, (1.0, 10.0), ops="limit counter"),
    Row("message too big", Code.MESSAGE_TOO_BIG, None, 1009, Action.STOP, ops="counter"),
    Row(
        "auth slow to the deadline, no fallback",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        _SOON,
        Cause.DEADLINE,
        "breaker failure",
    ),
    Row(
        "refused, DNS, TLS or 5xx",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        _SOON,
        Cause.UPSTREAM,
        "by result",
    ),
    Row(
        "breaker open, no fallback",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        _SOON,
        Cause.BREAKER_OPEN,
        "transition alert",
    ),
    Row(
        "auth 429 or throttled, no fallback",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        (1.0, 30.0),
        Cause.THROTTLED,
        "ratio",
    ),
    Row(
        "bulkhead or reaper full, no fallback", Code.OVERLOADED, 503, 1013, Action.RETRY, _SOON, ops="saturation alert"
    ),
    Row(
        "our service secret refused, no fallback",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        (30.0, 30.0),
        Cause.CONFIG,
        "page now",
    ),
    Row(
        "a 200 that is not the contract, or identity mismatch",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        _SOON,
        Cause.PROTOCOL,
        "contract alert",
    ),
    Row(
        "key set could not be had",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        _SOON,
        Cause.KEYSET,
        "key-set alert",
    ),
    Row(
        "outage or grace longer than its bound",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        (10.0, 30.0),
        Cause.STALE,
        "page: failing closed",
    ),
    Row(
        "the node's own store did not answer",
        Code.SERVICE_UNAVAILABLE,
        503,
        1013,
        Action.RETRY,
        _SOON,
        Cause.STORE,
        "store alert",
    ),
    Row(
        "late denial, live revocation, failed re-validation",
        Code.TOKEN_REVOKED,
        None,
        3000,
        Action.SIGN_IN,
        ops="exposure seconds",
    ),
    Row("our bug", Code.INTERNAL, 500, 1011, Action.RETRY, ops="page; fail closed"),
    Row("draining", Code.RESTARTING, 503, 1012, Action.RETRY, (0.0, 5.0), ops="info"),
)

HTTP_STYLE_CLOSE_CODES = {3000: 4401, 3003: 4403, 3008: 4408, 1013: 4503}
"""`close_codes = "http"`; `RATE_LIMITED` becomes 4429, the others stay."""

_BY_CODE = {row.code: row for row in reversed(TABLE)}
_BY_CAUSE = {(row.code, row.cause): row for row in TABLE if row.cause is not None}


def row_of(refusal: Deny | Unavailable) -> Row:
    """The table's row for this refusal; the first of its code where the cause has none of its own."""
    if isinstance(refusal, Unavailable) and refusal.cause is not None:
        return _BY_CAUSE.get((refusal.code, refusal.cause), _BY_CODE[refusal.code])
    return _BY_CODE[refusal.code]


def close_code(row: Row, *, style: Literal["iana", "http"] = "iana") -> int:
    """The close code of a row. Never 1000: a refusal is not a normal closure."""
    code = row.close or 1008
    if style == "iana":
        return code
    return 4429 if row.code is Code.RATE_LIMITED else HTTP_STYLE_CLOSE_CODES.get(code, code)


def close_reason(code: Code, decision_id: str, retry_after_ms: int | None) -> str:
    """`CODE;retry_after_ms=1840;id=<decision id>`, at most 123 bytes (RFC 6455, section 5.5)."""
    retry = f";retry_after_ms={retry_after_ms}" if retry_after_ms is not None else ""
    return f"{code}{retry};id={decision_id}".encode()[:123].decode("utf-8", "ignore")
