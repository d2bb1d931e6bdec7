"""The claims of a verified JWT: RFC 7519, with the access-token profile of RFC 9068."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

from doorward.core.answer import Valid, one_of_equals
from doorward.core.paths import value_at, words_at
from doorward.core.verdict import Code, Deny, Principal, Source, user_id_of

EXPIRY_LEEWAY_SECONDS = 5.0
"""How far the issuer's clock may be behind ours: so long after its `exp` a token is still let in, and lives."""

_NUMBERS = frozenset({int, float})


@dataclass(frozen=True, slots=True)
class ClaimsPolicy:
    """What a token must say, and where: claims by their names or paths. Leeways in seconds."""

    issuer: str
    audiences: frozenset[str]
    tenant: str | None = None
    """Whose users these are, where the door has several issuers; see `Principal`."""
    reserved: tuple[str, ...] = ()
    """What no user of an issuer without a tenant may be called: the beginnings of the ids of the tenants' users."""
    user_claim: str = "sub"
    session_claim: str = "sid"
    email_claim: str = "email"
    audience_claim: str = "aud"
    permission_claims: tuple[str, ...] = ()
    """Where the permissions are, all of them together; none: `permissions` as a list, else RFC 8693's `scope` as words."""
    required: tuple[tuple[str, str], ...] = ()
    """Claims that must have just this value, such as Keycloak's `typ=Bearer`, which no ID token has."""
    leeway_seconds: float = 30.0
    expiry_leeway_seconds: float = EXPIRY_LEEWAY_SECONDS


def check(claims: Mapping[str, Any], policy: ClaimsPolicy, wall_now: float) -> Principal | Deny:
    """Who the token speaks for, or why it does not count. `exp` is required; `aud` must name us; `iss` is exact."""
    subject = _optional_text(claims, policy.user_claim)
    expires_at, not_before, issued_at = _date(claims, "exp"), _date(claims, "nbf"), _date(claims, "iat")
    problem = _problem(claims, policy, subject) or _problem_of_dates(
        expires_at, not_before, issued_at, wall_now + policy.leeway_seconds
    )
    if problem is not None or subject is None or expires_at is None:
        return Deny(Code.TOKEN_INVALID, Source.LOCAL, problem or "")
    if wall_now >= expires_at + policy.expiry_leeway_seconds:
        return Deny(Code.TOKEN_EXPIRED, Source.LOCAL)
    return Principal(
        user_id=user_id_of(subject, policy.tenant),
        issuer=policy.issuer,
        tenant=policy.tenant,
        email=_optional_text(claims, policy.email_claim),
        permissions=_permissions(claims, policy),
        session_id=_optional_text(claims, policy.session_claim),
        jti=_optional_text(claims, "jti"),
        issued_at=issued_at,
        expires_at=expires_at,
    )


def is_expired(principal: Principal, policy: ClaimsPolicy, wall_now: float) -> bool:
    return principal.expires_at is not None and wall_now >= principal.expires_at + policy.expiry_leeway_seconds


def merged(local: Principal | None, answer: Valid, policy: ClaimsPolicy) -> Principal | None:
    """One person: the token's own claims and the auth service's answer together. `None` if they name different ones, or somebody
    whom this issuer cannot know.

    Permissions come from the answer; the expiry is the smaller.
    """
    if answer.user_id.startswith(policy.reserved):
        return None
    user_id = user_id_of(answer.user_id, policy.tenant)
    if local is None:
        return Principal(
            user_id=user_id,
            issuer=policy.issuer,
            tenant=policy.tenant,
            email=answer.email,
            permissions=answer.permissions,
            session_id=answer.session_id,
            expires_at=answer.expires_at,
        )
    other_user = user_id != local.user_id
    other_session = None not in (answer.session_id, local.session_id) and answer.session_id != local.session_id
    if other_user or other_session:
        return None
    ends = [end for end in (local.expires_at, answer.expires_at) if end is not None]
    return Principal(
        user_id=local.user_id,
        issuer=local.issuer,
        tenant=local.tenant,
        email=answer.email or local.email,
        permissions=answer.permissions,
        session_id=local.session_id or answer.session_id,
        jti=local.jti,
        issued_at=local.issued_at,
        expires_at=min(ends) if ends else None,
    )


def _problem(claims: Mapping[str, Any], policy: ClaimsPolicy, subject: str | None) -> str | None:
    """The first rule that the claims break, in words without foreign text."""
    issuer = claims.get("iss")
    if issuer != policy.issuer:
        slash = isinstance(issuer, str) and issuer.rstrip("/") == policy.issuer.rstrip("/")
        return f"iss is not {policy.issuer}{', but for a slash at its end' if slash else ''}"
    if policy.audiences.isdisjoint(audiences_of(claims, policy.audience_claim)):
        return f"{policy.audience_claim} does not name this service"
    if subject is None:
        return f"{policy.user_claim} is missing"
    if subject.startswith(policy.reserved):
        return f"{policy.user_claim} is a name of another issuer's users"
    for name, value in policy.required:
        if value_at(claims, name) != value:
            return f"{name} is not the required one"
    return None


def _problem_of_dates(
    expires_at: float | None, not_before: float | None, issued_at: float | None, latest: float
) -> str | None:
    for name, date in (("exp", expires_at), ("nbf", not_before), ("iat", issued_at)):
        if date is not None and isnan(date):
            return f"{name} is not a NumericDate"
    if expires_at is None:
        return "exp is missing"
    if not_before is not None and not_before > latest:
        return "nbf is in the future"
    if issued_at is not None and issued_at > latest:
        return "iat is in the future"
    return None


def audiences_of(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """For whom the token is, by this claim: RFC 7519 allows one text or a list of them."""
    value = value_at(claims, claim)
    if isinstance(value, str):
        return frozenset({value})
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()


def _date(claims: Mapping[str, Any], name: str) -> float | None:
    """`None` if there is none, and NaN if it is no NumericDate. A bool is none, though Python calls it an `int`."""
    value = claims.get(name)
    if value is None:
        return nan if name in claims else None
    if type(value) not in _NUMBERS:
        return nan
    return float(value) if -1e12 < value < 1e12 else nan


def _optional_text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims[name] if name in claims else value_at(claims, name) if "." in name else None
    return value if isinstance(value, str) and value else None


def _permissions(claims: Mapping[str, Any], policy: ClaimsPolicy) -> frozenset[str]:
    if policy.permission_claims:
        return one_of_equals(frozenset().union(*(words_at(claims, name) for name in policy.permission_claims)))
    value = claims.get("permissions")
    if isinstance(value, list):
        return one_of_equals(frozenset(item for item in value if isinstance(item, str)))
    scope = claims.get("scope")
    return one_of_equals(frozenset(scope.split() if isinstance(scope, str) else ()))
