"""Settings: `doorward.toml` and `DOORWARD_*` become one frozen object. The only reader of the environment.

Order of precedence: arguments, environment, TOML file, defaults. Nested keys take `__`: `DOORWARD_AUTH__URL`.
An unknown key is a `ConfigError` that suggests the right one.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from doorward.core.degrade import Mode
from doorward.core.e2e import is_test_type
from doorward.core.keyset import KEY_TYPES
from doorward.core.limits import UNIX_PEER
from doorward.core.origin import normalised
from doorward.core.routes import pattern_fault
from doorward.errors import ConfigError

ENV_PREFIX = "DOORWARD_"
ADMIN = "admin"
CONFIG_FILE_VARIABLE = "DOORWARD_CONFIG"
DEFAULT_FILE = Path("doorward.toml")
MASK = "***"
AUTH = "auth"
"""The name of the issuer that `[auth]` is."""

MAX_ISSUERS = 32
_PASSWORD_IN_URL = re.compile(r"(://[^/?#\s:]*:)[^/?#\s]*@")


def _split(value: object) -> object:
    """Accept `a, b` and JSON where a list is asked for, because that is what people put into an environment variable."""
    if not isinstance(value, str):
        return value
    stripped = value.strip()
    with suppress(ValueError):
        if isinstance(parsed := json.loads(stripped), list):
            return parsed
    if stripped.startswith("[") and stripped.endswith("]") and "[" not in stripped[1:]:  # an IPv6 address has its own
        stripped = stripped[1:-1]
    return [part for part in (piece.strip() for piece in stripped.split(",")) if part]


def _unquoted(value: object) -> object:
    parts = _split(value)
    return (
        [part.strip("\"'") if isinstance(part, str) else part for part in parts] if isinstance(parts, list) else parts
    )


Strings = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_unquoted)]


class Environment(StrEnum):
    PRODUCTION = "production"
    STAGING = "staging"
    DEVELOPMENT = "development"


class Verify(StrEnum):
    REMOTE = "remote"
    LOCAL = "local"


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FieldSettings(Section):
    """Where the auth service's answer says what, if not in the words of the contract: names, or paths such as user.id."""

    valid: str = Field("valid", description="true or false; empty: every 200 is a yes")
    user_id: str = Field("user_id", min_length=1, description="Who it is: a text or a whole number")
    email: str = Field("email", description="Their address")
    permissions: str = Field("permissions", description="A list of texts, or one text of words")
    session_id: str = Field("session_id", description="Their session")
    expires_at: str = Field("expires_at", description="Seconds since 1970, or an RFC 3339 time")
    cache_seconds: str = Field("cache_seconds", description="How long the answer may be remembered")


class ClaimSettings(Section):
    """Where a JWT says what: names of claims, or paths such as realm_access.roles."""

    user_id: str = Field("sub", min_length=1, description="Who it is")
    email: str = Field("email", description="Their address")
    session_id: str = Field("sid", description="Their session")
    audience: str = Field("aud", min_length=1, description="For whom the token is; a text or a list")
    permissions: Strings = Field((), description="Lists or words, taken together; unset: permissions, else scope")
    required: Strings = Field((), description="Claims that must have just this value, as name=value")


class AuthSettings(Section):
    """Where the auth service is, who we are to it, and what its tokens look like."""

    url: str | None = Field(None, description="Base URL of the auth service, e.g. https://auth.internal")
    service_id: str = Field("doorward", description="Our own name at the auth service")
    service_secret: SecretStr | None = Field(None, description="Our own secret at the auth service; required to ask it")
    service_id_header: str | None = Field(None, description="Send the name in this header instead of HTTP Basic")
    service_secret_header: str | None = Field(None, description="Send the secret in this header instead of HTTP Basic")
    jwks_url: str | None = Field(None, description="Key set (RFC 7517); default: <url>/.well-known/jwks.json")
    issuer: str | None = Field(None, description="Exact `iss` of its tokens; default: the URL")
    audience: Strings = Field(
        ("doorward",),
        min_length=1,
        description="Accepted `aud` values; when we ask, the one that the token names is sent along",
    )
    algorithms: Strings = Field(("ES256", "RS256", "EdDSA"), min_length=1, description="Accepted JWS algorithms")
    typ: str | None = Field(
        None, description="Required `typ` header, e.g. at+jwt (RFC 9068); unset accepts JWT and at+jwt"
    )
    dns_servers: Strings = Field((), description="Name servers to ask instead of the system's; host or host:port")
    ca_file: Path | None = Field(None, description="Certificates of a private CA, PEM")
    validate_path: str = Field("/auth/validate", description="Where to ask about a token")
    protocol: Literal["validate", "introspection"] = Field(
        "validate", description="How to ask at validate_path; introspection: RFC 7662"
    )
    validate_method: Literal["POST", "GET"] = Field("POST", description="GET: without a body; the token is in a header")
    token_header: str | None = Field(None, description="Send the token in this header instead of the body")
    token_cookie: str | None = Field(None, description="Send the token in a cookie of this name instead of the body")
    invalid_statuses: tuple[int, ...] = Field(
        (), description="Statuses that say that the token is not good, e.g. 401; none of the contract is one"
    )
    send_credential: bool = Field(True, description="Say who we are when we ask; false: the service wants no secret")
    fields: FieldSettings = FieldSettings()
    claims: ClaimSettings = ClaimSettings()
    health_path: str = Field("/auth/health", description="Where to ask how the service is")
    revocations_path: str = Field("/auth/revocations", description="Where the revocation feed is")
    revocations: Literal["auto", "on", "off"] = Field(
        "auto", description="Follow the revocation feed; auto: if it is there"
    )

    @property
    def base_url(self) -> str:
        if self.url is None:
            raise ConfigError(f"auth.url is not set: set {ENV_PREFIX}AUTH__URL, or [auth] url in doorward.toml")
        return self.url.rstrip("/")

    @property
    def lacks_secret(self) -> bool:
        """Does the service want a credential that we have not? Then every question to it would be refused."""
        return self.send_credential and not (self.service_secret and self.service_secret.get_secret_value())

    @property
    def keyset_url(self) -> str:
        return self.jwks_url or f"{self.base_url}/.well-known/jwks.json"

    @property
    def expected_issuer(self) -> str:
        return self.issuer or self.base_url


class DegradeSettings(Section):
    """Who may come in while the auth service cannot be asked. See docs/concepts/degraded-mode.md."""

    mode: Mode | None = Field(
        None, description="local_jwt, cached_only or deny; unset: local_jwt with a revocation feed, else cached_only"
    )
    max_token_age_seconds: float = Field(3600, gt=0, le=86400, description="Oldest `iat` that local proof may rest on")
    max_stale_seconds: float = Field(1800, ge=0, le=86400, description="Age of a live verdict that may still admit")
    max_keyset_age_seconds: float = Field(
        86400, gt=0, le=604800, description="Oldest key set that local proof may rest on"
    )
    max_feed_age_seconds: float = Field(
        300, gt=0, le=86400, description="How old the revocation feed may have been when the outage began"
    )
    max_outage_seconds: float = Field(1800, gt=0, le=86400, description="After this long an outage fails closed")
    grant_seconds: float = Field(900, gt=0, le=86400, description="Longest degraded admission")
    rate_per_second: float = Field(500, gt=0, description="Degraded admissions, on average")
    burst: int = Field(2000, gt=0, description="Degraded admissions at once")
    privileged_scopes: Strings = Field((), description="Permissions a degraded connection does not get")


class BreakerSettings(Section):
    """Unset fields take the environment's own number (docs/reference/settings.md)."""

    failures: int | None = Field(None, gt=0, description="Consecutive failures that open it")
    window_seconds: float = Field(10, gt=0, description="Window of the two rates")
    failure_rate: float = Field(0.5, gt=0, le=1, description="Share of failed calls that opens it")
    slow_seconds: float = Field(1.0, gt=0, description="A call that takes longer is slow")
    slow_rate: float = Field(0.8, gt=0, le=1, description="Share of slow calls that opens it")
    min_calls: int = Field(10, gt=0, description="Fewer calls in the window open it by no rate")
    open_seconds: float = Field(5, gt=0, description="First open time without a canary; it doubles")
    max_open_seconds: float | None = Field(None, gt=0, description="Longest open time without a canary")
    canary: bool = Field(True, description="While open, ask about a random token once a second; two answers close it")


_NAME = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"


class IssuerSettings(AuthSettings):
    """One more issuer beside `[auth]`: another auth service, whose users are other people. All keys of `[auth]`, and these."""

    name: str = Field(pattern=_NAME, max_length=32, description="What it is called in variables, metrics and logs")
    url: str = Field(description="Base URL of its auth service")
    tenant: str | None = Field(
        None,
        pattern=_NAME,
        max_length=32,
        description="The id of each of its users is this, a colon, and what it calls them; default: the name",
    )
    opaque: bool | None = Field(
        None, description="Whether tokens that are no JWT are its own; default: those are of the first issuer"
    )
    verify: Verify | None = Field(None, description="remote or local; unset: as for all")
    degrade: DegradeSettings = Field(DegradeSettings(), description="Keys of `[degrade]` that differ for it")
    breaker: BreakerSettings = Field(BreakerSettings(), description="Keys of `[breaker]` that differ for it")


class CapsSettings(Section):
    """Phase caps in seconds, each also clipped by what is left of the deadline. Unset: the environment's own."""

    connect_seconds: float | None = Field(None, gt=0, description="DNS, TCP and TLS")
    read_seconds: float | None = Field(None, gt=0, description="The answer")
    write_seconds: float | None = Field(None, gt=0, description="The request")
    pool_seconds: float | None = Field(None, gt=0, description="A free connection")


class LimitSettings(Section):
    bulkhead: int = Field(64, gt=0, le=4096, description="Calls to the auth service in flight")
    unproven_lane: int = Field(16, gt=0, description="Of these, how many may be about tokens that nothing proves yet")
    abandoned: int = Field(64, gt=0, le=4096, description="Calls given up on whose clean-up is still running")
    pending_handshakes: int = Field(4096, gt=0, description="Opening handshakes that wait for their verdict")
    address_rate_per_second: float = Field(
        200, gt=0, description="Handshakes and refreshes of one address (IPv6: /64), on average"
    )
    address_burst: int = Field(2500, gt=0, description="Handshakes and refreshes of one address at once")
    lingering_refusals: int = Field(
        128, ge=0, description="Accepted-then-refused sockets; past it refusals go over HTTP"
    )
    reconnect_rate_per_second: float = Field(100, gt=0, description="Reconnects that clients are spread out to")
    incomplete_handshakes: int = Field(512, gt=0, description="Opening handshakes that are still being sent")
    first_message_seconds: float = Field(
        5, gt=0, le=60, description="How long a client that is let in to send its token first may take"
    )
    first_message_waiting: int = Field(256, gt=0, description="Clients that are waited for so, at once")
    first_message_waiting_per_address: int = Field(16, gt=0, description="Of these, of one address (IPv6: /64)")
    silent_seconds: float = Field(10, gt=0, description="A connection that sends nothing is cut after this")


class CacheSettings(Section):
    positive_seconds: float = Field(60, ge=0, le=600, description="How long a live yes is fresh, at most")
    negative_seconds: float = Field(5, ge=0, le=60, description="How long a live no is told without asking again")
    positive_entries: int = Field(32_768, gt=0, description="Tokens remembered as good")
    negative_entries: int = Field(4_096, gt=0, description="Tokens remembered as refused")


class RouteSettings(Section):
    """Rules of the guarded routes whose path matches, WebSocket or HTTP. The first match holds."""

    path: str = Field(description="Exact path, or a prefix that ends in /*")
    transports: Strings = Field(
        ("header", "subprotocol", "ticket"), description="header, subprotocol, ticket, cookie, query, first_message"
    )
    required_scopes: Strings = Field((), description="Permissions that a client must have")
    allow_degraded: bool = Field(True, description="May somebody come in here while the auth service cannot be asked?")
    notices: bool = Field(
        False, description="Door notices and auth.refresh for every client, not only for one that offers doorward.*"
    )


class TicketSettings(Section):
    """Tickets: a token sealed for one opening handshake, for clients that can set no header. See docs/how-to/tickets.md."""

    path: str = Field("/doorward/ticket", pattern="^/", description="Where the door itself gives them out, by POST")
    seconds: float = Field(30, gt=0, le=30, description="How long a ticket is good")


class SessionSettings(Section):
    expiring_notice_seconds: float = Field(
        60, ge=0, description="The client is told to refresh this long before its end"
    )
    expiry_grace_seconds: float = Field(
        900, ge=0, description="How long an expired connection stays while nobody can refresh"
    )
    revalidate_rate_per_second: float = Field(50, gt=0, description="Connections asked about again after an outage")
    app_exit_seconds: float = Field(
        5, gt=0, le=60, description="How long the app may take to leave a connection that the door has closed"
    )


class E2eSettings(Section):
    """Test tokens that let a test in while the auth service is down. Never in production. See docs/how-to/test-degraded-mode.md."""

    enabled: bool = Field(False, description="Take E2E test tokens; the start is refused with it in production")
    audience: str | None = Field(
        None, min_length=1, max_length=200, description="Name of this deployment; a test token is good for one"
    )
    key_file: Path | None = Field(
        None,
        description="The key of test tokens (JWK), made if it is not there; default: e2e.key in the data directory",
    )
    tenant: str = Field(
        "e2e", pattern=r"^[a-z][a-z0-9-]{0,31}$", description="A test user's id is this, a colon and its name"
    )
    permissions: Strings = Field(("chat",), description="Permissions of every test user; none that is privileged")
    issuer: str | None = Field(
        None, description="In the outages of which issuer they count, by its name; default: the first"
    )


class TelemetrySettings(Section):
    """Traces. Where they go is said by OpenTelemetry's own variables. See docs/how-to/trace.md."""

    otel: Literal["auto", "off"] = Field("auto", description="auto: trace where OpenTelemetry is installed and set up")
    client_trace: Literal["link", "parent", "ignore"] = Field(
        "link",
        description="What a client's `traceparent` is to our trace; parent: only where a gateway of yours writes the header",
    )


class ServeSettings(Section):
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one")
    drain_delay_seconds: float = Field(5, ge=0, le=30, description="From unready to the first close, on SIGTERM")
    drain_spread_seconds: float = Field(10, ge=0, le=60, description="Over which the sockets are closed")
    run_until_seconds: float = Field(
        25, ge=0, le=600, description="Seconds after SIGTERM at which running agents are interrupted"
    )
    exit_seconds: float = Field(30, gt=0, le=900, description="After SIGTERM the process ends within this")
    metrics_token: SecretStr | None = Field(None, description="Bearer for /metrics from elsewhere than loopback")


_AGENT = re.compile(r"warden|pydantic-ai|http|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class ChatSettings(Section):
    """Who answers in the chat of `doorward serve` and `up` (docs/how-to/bring-your-own-agent.md), and where it is kept."""

    agent: str = Field(
        "warden",
        description="warden: about this very door, without a model; pydantic-ai: a model; http: an AG-UI agent at `agent_url`; "
        "or module:name of an agent of yours",
    )
    agent_model: str | None = Field(
        None, min_length=1, max_length=200, description="Model as pydantic-ai names it, e.g. openai:gpt-5, or test"
    )
    agent_instructions: str | None = Field(
        None, max_length=32_768, description="What the model is told before all else"
    )
    agent_url: str | None = Field(
        None, description="Where an AG-UI agent takes its POST, e.g. https://agent.internal/run"
    )
    agent_token: SecretStr | None = Field(None, description="Bearer token that this agent gets from us")
    agent_seconds: float = Field(
        120, gt=0, le=600, description="Longest run; whoever has not answered by then, has not"
    )
    file: Path | None = Field(
        None, description="Threads and events (SQLite, for one process); default: chat.sqlite3 in the data directory"
    )
    synchronous: Literal["normal", "full"] = Field(
        "normal", description="normal: nothing is lost when the process dies; full: nor when the power fails"
    )
    events_per_thread: int = Field(
        4_096,
        ge=256,
        le=1_000_000,
        description="Events of a thread that can be resumed from; the history is kept anyway",
    )
    event_days: float = Field(30, gt=0, le=3_650, description="Older events cannot be resumed from")
    unsent_bytes: int = Field(
        268_435_456,
        ge=1_048_576,
        description="Memory for what waits to be sent on all sockets together, in bytes; past it the socket for which most waits "
        "is closed with 1013",
    )


class ClientSettings(Section):
    """Where `doorward chat` goes, and as whom (docs/how-to/chat-from-python.md)."""

    url: str = Field("http://127.0.0.1:8000", description="Address of the chat server")
    email: str | None = Field(None, description="Who signs in; unset: it is asked for")
    password: SecretStr | None = Field(None, description="Their password; unset: it is asked for")
    token: SecretStr | None = Field(None, description="An access token instead of a sign-in; nothing renews it")
    ca_file: Path | None = Field(None, description="Certificates of a private CA, PEM")


class AuthdSettings(Section):
    """Settings of our own auth service, `doorward authd`."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8001, ge=0, le=65535, description="Port to listen on; 0: any free one")
    database_url: str | None = Field(
        None, description="`postgresql://...`, or another SQLite file; default: SQLite in the data directory"
    )
    issuer: str | None = Field(
        None, description="`iss` of its tokens; default: auth.issuer, else its own http://HOST:PORT"
    )
    access_token_seconds: int = Field(600, ge=10, le=3600, description="Life of an access token")
    refresh_token_seconds: int = Field(1_209_600, ge=600, description="Life of a refresh token")
    refresh_overlap_seconds: float = Field(
        30, ge=0, le=300, description="How long a used refresh token still gives the same successor"
    )
    allow_register: bool = Field(False, description="Let anyone make an account; only `doorward up` turns it on")
    admin_email: str | None = Field(None, description="A first admin, made at start if it does not exist")
    admin_password: SecretStr | None = Field(None, description="Its password")
    hash_workers: int = Field(2, gt=0, le=16, description="Threads that hash passwords")
    hash_queue: int = Field(32, ge=0, description="Sign-ins that wait for one; more get 429")
    allowed_origins: Strings = Field((), description="Origins whose pages may call it (CORS)")
    new_user_permissions: Strings = Field(("chat",), description="Permissions of an account that registered itself")
    store_seconds: float = Field(2.0, gt=0, le=30, description="Longest wait for the database; then the answer is 503")
    login_address_per_second: float = Field(2, gt=0, description="Failed sign-ins per address, on average")
    login_address_burst: int = Field(60, gt=0, description="Failed sign-ins per address at once")
    login_account_per_second: float = Field(0.2, gt=0, description="Failed sign-ins per account, on average")
    login_account_burst: int = Field(10, gt=0, description="Failed sign-ins per account at once")


@dataclass(frozen=True, slots=True)
class OneIssuer:
    """An issuer, and the settings as if it were the only one: `auth`, `verify`, `degrade` and `breaker` are its own.

    `reserved`: the beginnings of ids that none of its users may have, because they are those of other tenants' users.
    """

    name: str
    tenant: str | None
    takes_opaque: bool
    takes_test_tokens: bool
    reserved: tuple[str, ...]
    settings: Settings

    @property
    def section(self) -> str:
        """Where its keys are."""
        return AUTH if self.tenant is None else f"issuers.{self.name}"


class Settings(BaseSettings):
    """All settings of Doorward. `Settings(auth={"url": ...})` in code, or `Settings.load()` for a program.

    Raises:
        ConfigError: a value cannot work, or a key is unknown; the text names the key and where it was read.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
    )

    environment: Environment = Field(
        Environment.PRODUCTION, description="production, staging or development; picks the numbers of the table below"
    )
    verify: Verify = Field(
        Verify.REMOTE, description="remote: ask the auth service; local: signature, claims and revocations decide"
    )
    deadline_seconds: float = Field(2.0, gt=0.05, le=30, description="Every opening handshake is answered within this")
    patience_seconds: float = Field(
        0.5,
        ge=0,
        le=30,
        description="How long to wait for the auth service when the token is proven already; then it is let in provisionally",
    )
    data_dir: Path = Field(Path(".doorward"), description="What must survive a restart; made with mode 0700")
    allowed_origins: Strings = Field(
        (), description="Exact origins that may connect besides the same origin, e.g. https://app.example"
    )
    trusted_proxies: Strings = Field(
        (), description="CIDRs, or unix for a Unix socket, whose X-Forwarded-For and -Proto count"
    )
    public: Strings = Field((), description="WebSocket paths that are not guarded: exact, or a prefix that ends in /*")
    protect_http: Strings = Field(
        (),
        description="HTTP paths that are guarded too: exact, or a prefix that ends in /*; one that begins with ! is not",
    )
    cookie_name: str = Field(
        "__Host-doorward",
        pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$",
        description="The cookie that holds the token, on routes that list cookie",
    )
    close_codes: Literal["iana", "http"] = Field(
        "iana", description="iana: 3000, 3003, 3008, 1013; http: 4401, 4403, 4408, 4429, 4503"
    )
    denial: Literal["auto", "http", "close"] = Field(
        "auto", description="How a refusal is told; auto: a close frame to a browser client of ours, HTTP to all others"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least serious line that is logged"
    )
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")

    auth: AuthSettings = AuthSettings()
    issuers: tuple[IssuerSettings, ...] = Field((), max_length=MAX_ISSUERS, description="More issuers; see below")
    degrade: DegradeSettings = DegradeSettings()
    breaker: BreakerSettings = BreakerSettings()
    caps: CapsSettings = CapsSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    session: SessionSettings = SessionSettings()
    tickets: TicketSettings = TicketSettings()
    e2e: E2eSettings = E2eSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    routes: tuple[RouteSettings, ...] = Field((), description="Rules for guarded paths; see below")
    serve: ServeSettings = ServeSettings()
    chat: ChatSettings = ChatSettings()
    client: ClientSettings = ClientSettings()
    authd: AuthdSettings = AuthdSettings()

    def __init__(self, *, _file: Path | None = None, **values: Any) -> None:
        entries = _issuers_in(values)
        names = _names_of(entries)
        _refuse_unknown_variables(os.environ, names)
        if entries:
            values["issuers"] = [_with_variables(entry) for entry in entries]
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, names, _file)) from error
        except SettingsError as error:
            raise ConfigError(f"environment: {error}; write it as JSON") from error

    @classmethod
    def load(cls, file: Path | None = None, **overrides: Any) -> Self:
        """Read the TOML file (`file`, else `$DOORWARD_CONFIG`, else ./doorward.toml if it is there) and the environment."""
        path = file_in_use(file)
        content = _read_toml(path) if path else {}
        return cls(_file=path, **_merged(_without_environment(content), overrides))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.patience_seconds > self.deadline_seconds:
            raise ValueError("patience_seconds must not be greater than deadline_seconds")
        for proxy in self.trusted_proxies:
            _check_proxy(proxy)
        for origin in self.allowed_origins:
            if normalised(origin) is None or origin != origin.lower():
                raise ValueError(
                    f"allowed_origins: {origin!r} is not an origin; write scheme://host[:port] in lower case, with no path "
                    "and no slash"
                )
        _check_patterns("public", self.public)
        _check_patterns("protect_http", [pattern.removeprefix("!") for pattern in self.protect_http])
        _check_patterns("routes", [route.path for route in self.routes])
        _check_issuers(self)
        _check_e2e(self)
        _check_agent(self.chat, self.environment)
        return self

    def each_issuer(self) -> Sequence[OneIssuer]:
        """`[auth]`, where it has a URL, and then `[[issuers]]`. One at least: whoever reads its URL is told if there is none."""
        entries: list[tuple[str, str | None, bool | None, Settings]] = []
        if self.auth.url is not None or not self.issuers:
            entries.append((AUTH, None, None, self))
        entries.extend((one.name, one.tenant or one.name, one.opaque, _as_only(self, one)) for one in self.issuers)
        names = [name for name, *_ in entries]
        said = next((name for name, _, opaque, _ in entries if opaque), None)
        opaque = said or (names[0] if entries[0][2] is None else None)
        tenants = [tenant for _, tenant, _, _ in entries if tenant is not None]
        if self.e2e.enabled:
            tenants.append(self.e2e.tenant)
        reserved = tuple(f"{tenant}:" for tenant in tenants)
        testing = self.e2e.issuer or names[0]
        return [
            OneIssuer(name, tenant, name == opaque, name == testing, reserved if tenant is None else (), settings)
            for name, tenant, _, settings in entries
        ]

    def described(self) -> Iterator[tuple[str, str, bool]]:
        """Every setting as (dotted key, value with secrets masked, whether it was set). For `check-config` and the docs."""
        yield from _described(self, "")


def otlp_protocol() -> str | None:
    """How OpenTelemetry's own variables want traces exported by OTLP; `None` where they do not.

    Source: OpenTelemetry specification, "Environment Variable Specification" and "OTLP Exporter".
    """
    given = {name: value.strip() for name, value in os.environ.items() if name.startswith("OTEL_") and value.strip()}
    endpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in given or "OTEL_EXPORTER_OTLP_ENDPOINT" in given
    exporters = {name.strip() for name in given.get("OTEL_TRACES_EXPORTER", "otlp").split(",")}
    if not endpoint or "otlp" not in exporters or given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    general = given.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    return given.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", general)


def file_in_use(file: Path | None = None) -> Path | None:
    """The TOML file that `Settings.load(file)` reads, if any."""
    if file is None and CONFIG_FILE_VARIABLE in os.environ:
        return Path(os.environ[CONFIG_FILE_VARIABLE])
    return file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)


def variable_for(key: str) -> str:
    """The environment variable by which this dotted key may be set."""
    return ENV_PREFIX + _as_variable(key)


def variable_of(key: str) -> str | None:
    """The environment variable that sets this dotted key, if there is one now."""
    name = variable_for(key)
    return next((given for given in os.environ if given.upper() == name), None)


def child_environment(values: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process of ours: what is here without any `DOORWARD_*`, and these settings (dotted key to text)."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(ENV_PREFIX)}
    return inherited | {variable_for(key): value for key, value in values.items()}


def _as_variable(key: str) -> str:
    """How a dotted key, or the name of an issuer, is written in a variable."""
    return key.upper().replace(".", "__").replace("-", "_")


def _check_patterns(key: str, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        fault = pattern_fault(pattern)
        if fault is not None:
            raise ValueError(f"{key}: {pattern!r} can match no path: it {fault}")


def _check_issuers(settings: Settings) -> None:
    """Each by itself, and that no two could be taken for one."""
    names = [issuer.name for issuer in settings.issuers]
    for name in names:
        if name == AUTH or names.count(name) > 1:
            raise ValueError(f"issuers: {name!r} is the name of another; call each of them something else")
    every = settings.each_issuer()
    for issuer in every:
        _check_auth(issuer.section, issuer.settings.auth, settings.environment)
    if len(every) == 1 and every[0].settings.auth.url is None:
        return
    _check_apart("tenant", {one.section: one.tenant for one in every if one.tenant is not None})
    _check_apart("issuer", {one.section: one.settings.auth.expected_issuer for one in every})
    taken = next((one for one in every if settings.e2e.enabled and one.tenant == settings.e2e.tenant), None)
    if taken is not None:
        raise ValueError(f"e2e.tenant: {settings.e2e.tenant!r} is that of {taken.section}; test users are nobody's")
    opaque = [issuer.name for issuer in settings.issuers if issuer.opaque]
    if len(opaque) > 1:
        raise ValueError(f"issuers.{opaque[1]}.opaque: {opaque[0]} has the opaque tokens; nobody can tell whose one is")


def _check_apart(key: str, values: Mapping[str, str]) -> None:
    first: dict[str, str] = {}
    for section, value in values.items():
        other = first.setdefault(value, section)
        if other != section:
            raise ValueError(f"{section}.{key}: {value!r} is that of {other} already; two issuers must not share it")


def _check_auth(section: str, auth: AuthSettings, environment: Environment) -> None:
    for key, url in (("url", auth.url), ("jwks_url", auth.jwks_url)):
        if url is not None:
            _check_url(f"{section}.{key}", url, environment)
    if auth.url is not None and not {"?", "#"}.isdisjoint(auth.url):
        raise ValueError(f"{section}.url: paths are put after it; leave out the query and the fragment")
    for key in ("validate_path", "health_path", "revocations_path"):
        if not getattr(auth, key).startswith("/"):
            raise ValueError(f"{section}.{key} does not begin with /; write it as it follows {section}.url")
    _check_asking(section, auth)
    unknown = sorted(set(auth.algorithms) - set(KEY_TYPES))
    if unknown:
        raise ValueError(f"{section}.algorithms: {unknown[0]!r} is not accepted; known are {', '.join(KEY_TYPES)}")
    if (auth.service_id_header is None) != (auth.service_secret_header is None):
        raise ValueError(f"{section}.service_id_header and {section}.service_secret_header go together")
    if auth.typ is not None and is_test_type(auth.typ):
        raise ValueError(f"{section}.typ is the type of E2E test tokens, which are never asked about")


def _check_asking(section: str, auth: AuthSettings) -> None:
    """What cannot be asked is said at the start."""
    if auth.token_header is not None and auth.token_cookie is not None:
        raise ValueError(
            f"{section}.token_header and {section}.token_cookie exclude each other: the token goes in one place"
        )
    elsewhere = auth.token_header or auth.token_cookie
    if auth.protocol == "introspection" and (elsewhere or auth.validate_method != "POST"):
        raise ValueError(
            f"{section}.protocol: introspection sends the token by POST in a form; leave the other settings out"
        )
    if auth.validate_method == "GET" and not elsewhere:
        raise ValueError(
            f"{section}.validate_method: GET has no body; set {section}.token_header or {section}.token_cookie"
        )
    taken = auth.send_credential and auth.service_id_header is None
    if taken and (auth.token_header or "").lower() == "authorization":
        raise ValueError(
            f"{section}.token_header: Authorization is where our own credential goes; set {section}.send_credential to "
            f"false, or name {section}.service_id_header and {section}.service_secret_header"
        )
    wrong = [status for status in auth.invalid_statuses if not 400 <= status <= 499 or status in {407, 408, 425, 429}]
    if wrong:
        raise ValueError(
            f"{section}.invalid_statuses: {wrong[0]} says nothing about a token; only some of 400 to 499 do"
        )
    if any("=" not in claim for claim in auth.claims.required):
        raise ValueError(f"{section}.claims.required: write name=value")


def _as_only(settings: Settings, issuer: IssuerSettings) -> Settings:
    return settings.model_copy(
        update={
            "auth": issuer,
            "verify": issuer.verify or settings.verify,
            "degrade": settings.degrade.model_copy(update=_set_in(issuer.degrade)),
            "breaker": settings.breaker.model_copy(update=_set_in(issuer.breaker)),
            "issuers": (),
        }
    )


def _set_in(section: Section) -> dict[str, Any]:
    return {name: getattr(section, name) for name in section.model_fields_set}


def _check_e2e(settings: Settings) -> None:
    """Whoever holds the key of test tokens gets in during an outage: never where real users are."""
    e2e = settings.e2e
    names = [issuer.name for issuer in settings.each_issuer()]
    if e2e.issuer is not None and e2e.issuer not in names:
        raise ValueError(f"e2e.issuer: there is no issuer {e2e.issuer!r}; there is {', '.join(names)}")
    if not e2e.enabled:
        return
    if settings.environment is Environment.PRODUCTION:
        raise ValueError(
            "e2e.enabled: production takes no test tokens; set it to false, or environment to staging or development if "
            "this is one"
        )
    if e2e.audience is None:
        raise ValueError("e2e.audience is not set: name this deployment, so that a test token is good for no other")
    degrades = [settings.degrade, *(issuer.degrade for issuer in settings.issuers)]
    privileged = sorted(
        {ADMIN, *(scope for each in degrades for scope in each.privileged_scopes)} & set(e2e.permissions)
    )
    if privileged:
        raise ValueError(f"e2e.permissions: {privileged[0]!r} is privileged; test users get none of that kind")


def _check_agent(chat: ChatSettings, environment: Environment) -> None:
    """Each kind of agent has settings of its own; what belongs to another kind would be silently ignored."""
    if not _AGENT.fullmatch(chat.agent):
        raise ValueError(
            f"chat.agent: {chat.agent!r} is none; write warden, pydantic-ai, http, or module:name of yours"
        )
    if chat.agent_url is not None:
        _check_url("chat.agent_url", chat.agent_url, environment)
    if chat.agent == "http" and chat.agent_url is None:
        raise ValueError("chat.agent_url is not set: chat.agent = http needs the address of the agent")
    if chat.agent == "pydantic-ai" and chat.agent_model is None:
        raise ValueError("chat.agent_model is not set: chat.agent = pydantic-ai needs a model, e.g. openai:gpt-5")
    if chat.agent != "http" and (chat.agent_url or chat.agent_token):
        raise ValueError(f"chat.agent_url and chat.agent_token are for chat.agent = http, not {chat.agent}")
    if chat.agent in {"warden", "http"} and (chat.agent_model or chat.agent_instructions):
        raise ValueError(
            f"chat.agent_model and chat.agent_instructions are for chat.agent = pydantic-ai, not {chat.agent}"
        )


def _check_url(key: str, url: str, environment: Environment) -> None:
    """Whoever can change the key set, or the answer, can let in anybody: no plain text in production."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or not _has_good_port(parts):
        raise ValueError(f"{key} is not an http(s) URL; write https://host[:port][/path], with no user name in it")
    if environment is Environment.PRODUCTION and parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(
            f"{key}: https is required in production except on loopback; use https, or set environment = 'staging'"
        )


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _check_proxy(text: str) -> None:
    if text == UNIX_PEER:
        return
    try:
        ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"trusted_proxies: {error}; write 10.0.0.0/8, 2001:db8::/32 or unix") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    unknown = [
        f"unknown key {key!r}{_suggestion(key, _keys(Settings))}" for key in _unknown_keys(content, Settings, "")
    ]
    if unknown:
        raise ConfigError(f"{path}: {'; '.join(unknown)}")
    return content


def _without_environment(content: dict[str, Any], prefix: str = ENV_PREFIX) -> dict[str, Any]:
    """Drop what the environment sets, so that it wins over the file."""
    names = {name.upper() for name in os.environ}
    kept: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key.upper()}"
        if isinstance(value, dict):
            kept[key] = _without_environment(value, f"{name}__")
        elif name in names:
            continue
        elif name == _ISSUERS and isinstance(value, list):
            kept[key] = [_entry_without_environment(entry) for entry in value]
        else:
            kept[key] = value
    return kept


_ISSUERS = f"{ENV_PREFIX}ISSUERS"


def _entry_without_environment(entry: Any) -> Any:
    name = entry.get("name") if isinstance(entry, dict) else None
    return _without_environment(entry, f"{_ISSUERS}__{_as_variable(name)}__") if isinstance(name, str) else entry


def _issuers_in(values: Mapping[str, Any]) -> Sequence[Any]:
    """The entries of `[[issuers]]`, from arguments or file, else from the one variable that may hold them all."""
    given = values.get("issuers")
    if given is None:
        text = next((value for name, value in os.environ.items() if name.upper() == _ISSUERS), "null")
        with suppress(ValueError):  # what is wrong with it is told where it is read as a setting
            given = json.loads(text)
    if not isinstance(given, list | tuple):
        return ()
    return [one.model_dump(exclude_unset=True) if isinstance(one, IssuerSettings) else one for one in given]


def _names_of(entries: Iterable[Any]) -> Sequence[str | None]:
    names = (entry.get("name") if isinstance(entry, Mapping) else None for entry in entries)
    return [name if isinstance(name, str) else None for name in names]


def _with_variables(entry: Any) -> Any:
    """With what the environment says of it, as far as it does not say so itself: `DOORWARD_ISSUERS__ACME__SERVICE_SECRET`."""
    (name,) = _names_of([entry])
    if name is None:
        return entry
    prefix = f"{_ISSUERS}__{_as_variable(name)}__"
    variables = EnvSettingsSource(IssuerSettings, env_prefix=prefix, env_nested_delimiter="__", case_sensitive=False)  # type: ignore[arg-type]  # it reads no more of a class than its fields
    return _merged(variables(), entry)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
    return result


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel] | None]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        is_model = isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel)
        yield name, annotation if is_model else None  # type: ignore[misc]


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, section in _sections(model):
        keys.append(prefix + name)
        if section is not None:
            keys.extend(_keys(section, f"{prefix}{name}."))
    return keys


def _leaves(model: type[BaseModel]) -> Iterator[str]:
    """The keys that have a value, and not keys of their own."""
    keys = _keys(model)
    return (key for key in keys if not any(other.startswith(f"{key}.") for other in keys))


def _unknown_keys(content: Mapping[str, Any], model: type[BaseModel], prefix: str) -> Iterator[str]:
    sections = dict(_sections(model))
    for key, value in content.items():
        if key not in sections:
            yield prefix + key
        elif (section := sections[key]) is not None and isinstance(value, Mapping):
            yield from _unknown_keys(value, section, f"{prefix}{key}.")


def _suggestion(key: str, known: list[str]) -> str:
    longer = [name for name in known if name.startswith(f"{key}_")]
    close = longer or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "; see docs/reference/settings.md"


def _refuse_unknown_variables(environment: Mapping[str, str], issuers: Iterable[str | None]) -> None:
    """A whole section in one variable is unknown too: it would be merged with the file in an order nobody can tell."""
    known = {ENV_PREFIX + key.upper().replace(".", "__") for key in _leaves(Settings)} | {CONFIG_FILE_VARIABLE}
    known |= {
        f"{_ISSUERS}__{_as_variable(name)}__{key.upper().replace('.', '__')}"
        for name in issuers
        if name is not None
        for key in _leaves(IssuerSettings)
        if key != "name"
    }
    unknown = [
        f"unknown variable {name}{_suggestion(name.upper(), sorted(known))}"
        for name in environment
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known
    ]
    if unknown:
        raise ConfigError(f"environment: {'; '.join(unknown)}")


def _explain(error: ValidationError, issuers: Sequence[str | None], file: Path | None) -> str:
    """One sentence a problem: the key, what is wrong, where it was read. Never the value: it may be a secret."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        key = ".".join(str(part) for part in _named(problem["loc"], issuers))
        variable = variable_of(key)
        elsewhere = f"arguments or {file}" if file is not None else "arguments"
        where = f"environment variable {variable}" if variable is not None else elsewhere
        message = problem["msg"].removeprefix("Value error, ")
        hint = _suggestion(key, _keys_beside(key)) if problem["type"] == "extra_forbidden" else ""
        message = "unknown key" if problem["type"] == "extra_forbidden" else message
        lines.append(f"{key}: {message}{hint} ({where})" if key else message)
    return "; ".join(lines)


def _named(place: Sequence[int | str], issuers: Sequence[str | None]) -> Sequence[int | str]:
    """An entry of `[[issuers]]` by its name, where it has one, and not by its number."""
    if place[:1] != ("issuers",) or len(place) < 2 or not isinstance(place[1], int):
        return place
    name = issuers[place[1]] if place[1] < len(issuers) else None
    return ("issuers", name, *place[2:]) if name else place


def _keys_beside(key: str) -> list[str]:
    """What may be written where this stands."""
    section, *rest = key.split(".")
    entries: dict[str, type[BaseModel]] = {"issuers": IssuerSettings, "routes": RouteSettings}
    entry = entries.get(section)
    if entry is None or len(rest) < 2:
        return _keys(Settings)
    return _keys(entry, f"{section}.{rest[0]}.")


def _described(model: BaseModel, prefix: str) -> Iterator[tuple[str, str, bool]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        key = prefix + name
        if isinstance(value, BaseModel):
            yield from _described(value, f"{key}.")
        elif key == "issuers" and value:
            for issuer in value:
                yield from _described(issuer, f"{key}.{issuer.name}.")
        else:
            yield key, _shown(value), name in model.model_fields_set


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return MASK
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value) or "-"
    return _PASSWORD_IN_URL.sub(rf"\1{MASK}@", str(value))


__all__ = [
    "AUTH",
    "ENV_PREFIX",
    "Environment",
    "IssuerSettings",
    "OneIssuer",
    "RouteSettings",
    "Settings",
    "Verify",
    "child_environment",
    "file_in_use",
    "variable_for",
    "variable_of",
]
