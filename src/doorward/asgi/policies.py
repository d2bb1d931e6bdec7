"""Settings read as the policies that the floors below go by: here the numbers of each environment live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doorward.adapters import e2e_key
from doorward.adapters.transport import Caps
from doorward.config import Environment, OneIssuer, Settings, Verify
from doorward.core.breaker import BreakerPolicy
from doorward.core.claims import ClaimsPolicy
from doorward.core.credential import Transport
from doorward.core.decisions import CachePolicy
from doorward.core.degrade import DegradePolicy
from doorward.core.e2e import E2ePolicy
from doorward.core.routes import Route
from doorward.core.session import SessionPolicy
from doorward.errors import ConfigError
from doorward.runtime.authenticator import HandshakePolicy
from doorward.runtime.verifier import AuthPolicy


@dataclass(frozen=True, slots=True)
class Profile:
    """What differs between environments. Seconds; `failure_window_seconds`: consecutive failures count only within it."""

    connect_seconds: float
    read_seconds: float
    write_seconds: float
    pool_seconds: float
    failures: int
    failure_window_seconds: float | None
    max_open_seconds: float


PROFILES = {
    Environment.STAGING: Profile(1, 2, 1, 2, failures=2, failure_window_seconds=10, max_open_seconds=30),
    Environment.PRODUCTION: Profile(2, 5, 3, 5, failures=5, failure_window_seconds=None, max_open_seconds=60),
    Environment.DEVELOPMENT: Profile(1, 3, 1, 3, failures=5, failure_window_seconds=None, max_open_seconds=60),
}


def phase_caps(settings: Settings) -> Caps:
    profile, caps = PROFILES[settings.environment], settings.caps
    return Caps(
        connect_seconds=caps.connect_seconds or profile.connect_seconds,
        read_seconds=caps.read_seconds or profile.read_seconds,
        write_seconds=caps.write_seconds or profile.write_seconds,
        pool_seconds=caps.pool_seconds or profile.pool_seconds,
        address_seconds=settings.deadline_seconds / 3,
    )


def breaker_policy(settings: Settings) -> BreakerPolicy:
    profile, breaker = PROFILES[settings.environment], settings.breaker
    return BreakerPolicy(
        failures=breaker.failures or profile.failures,
        failure_window_seconds=profile.failure_window_seconds,
        failure_rate=breaker.failure_rate,
        slow_seconds=breaker.slow_seconds,
        slow_rate=breaker.slow_rate,
        min_calls=breaker.min_calls,
        window_seconds=breaker.window_seconds,
        open_seconds=breaker.open_seconds,
        max_open_seconds=breaker.max_open_seconds or profile.max_open_seconds,
    )


def cache_policy(settings: Settings) -> CachePolicy:
    cache = settings.cache
    return CachePolicy(cache.positive_seconds, cache.negative_seconds, cache.positive_entries, cache.negative_entries)


def degrade_policy(settings: Settings) -> DegradePolicy:
    degrade = settings.degrade
    return DegradePolicy(
        mode=degrade.mode,
        max_token_age_seconds=degrade.max_token_age_seconds,
        max_stale_seconds=degrade.max_stale_seconds,
        max_keyset_age_seconds=degrade.max_keyset_age_seconds,
        max_feed_age_seconds=degrade.max_feed_age_seconds,
        max_outage_seconds=degrade.max_outage_seconds,
        grant_seconds=degrade.grant_seconds,
        privileged_scopes=frozenset(degrade.privileged_scopes),
    )


def claims_policy(issuer: OneIssuer) -> ClaimsPolicy:
    auth, claims = issuer.settings.auth, issuer.settings.auth.claims
    return ClaimsPolicy(
        issuer=auth.expected_issuer,
        audiences=frozenset(auth.audience),
        tenant=issuer.tenant,
        reserved=issuer.reserved,
        user_claim=claims.user_id,
        session_claim=claims.session_id,
        email_claim=claims.email,
        audience_claim=claims.audience,
        permission_claims=claims.permissions,
        required=tuple((name, value) for name, _, value in (claim.partition("=") for claim in claims.required)),
    )


def handshake_policy(settings: Settings) -> HandshakePolicy:
    return HandshakePolicy(
        allowed_origins=frozenset(settings.allowed_origins),
        cookie=settings.cookie_name,
        max_pending=settings.limits.pending_handshakes,
    )


def session_policy(settings: Settings) -> SessionPolicy:
    return SessionPolicy(
        settings.session.expiring_notice_seconds,
        settings.session.expiry_grace_seconds,
        frozenset(settings.degrade.privileged_scopes),
    )


def auth_policy(issuer: OneIssuer, *, asks: bool = True) -> AuthPolicy:
    """Args: asks: somebody can be asked about a token; with `verify = local` that need not be so."""
    settings, auth = issuer.settings, issuer.settings.auth
    return AuthPolicy(
        claims=claims_policy(issuer),
        algorithms=frozenset(auth.algorithms),
        typ=auth.typ,
        audiences=auth.audience,
        remote=settings.verify is Verify.REMOTE,
        asks=asks,
        question_seconds=settings.deadline_seconds,
        patience_seconds=settings.patience_seconds,
        probes=not (settings.breaker.canary and settings.verify is Verify.REMOTE),
        degraded=degrade_policy(settings),
    )


def e2e_policy(settings: Settings) -> E2ePolicy | None:
    """`None` where test tokens are off.

    Raises:
        ConfigError: they are on in production, however the settings came to say so, or the deployment has no name.
    """
    e2e = settings.e2e
    if not e2e.enabled:
        return None
    if settings.environment is Environment.PRODUCTION or e2e.audience is None:
        raise ConfigError("e2e.enabled: never in production, and only with an e2e.audience")
    return E2ePolicy(e2e.audience, e2e.tenant, frozenset(e2e.permissions))


def e2e_key_file(settings: Settings) -> Path:
    return settings.e2e.key_file or settings.data_dir / e2e_key.FILE_NAME


def route_rules(settings: Settings) -> Sequence[Route]:
    """Raises: ConfigError: a route lists a transport that does not exist."""
    return [
        Route(
            path=route.path,
            transports=frozenset(_transport(name, route.path) for name in route.transports),
            required_scopes=frozenset(route.required_scopes),
            allow_degraded=route.allow_degraded,
            notices=route.notices,
        )
        for route in settings.routes
    ]


def _transport(name: str, path: str) -> Transport:
    try:
        return Transport(name)
    except ValueError:
        known = ", ".join(transport.value for transport in Transport)
        raise ConfigError(f"routes: {path}: unknown transport {name!r}; known are {known}") from None
