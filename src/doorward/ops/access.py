"""Who may look at the ops page, and who may break things from it.

Look: the holder of an ops token; an admin, whose access token passes the door's own pipeline (so the answer is bounded, and in an
outage it may rest on local proof), but no admin of a tenant, for all tenants are seen here; and in `doorward up` whoever sits at
this very host. Change: only in `up`, and only with the token that it printed, in a header of its own: no page of another origin
can send that, and no cookie counts for anything here.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import structs
from starlette.responses import Response

from doorward.asgi.door import new_decision_id
from doorward.chat.problem import problem
from doorward.core.credential import Transport
from doorward.core.deadline import Deadline
from doorward.core.lru import Lru
from doorward.core.origin import allowed
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Cause, Code, Deny, Principal, Source, Unavailable
from doorward.errors import CredentialError
from doorward.ops import token
from doorward.ops.metrics import FORWARDING_HEADERS
from doorward.runtime.log import get_logger
from doorward.runtime.telemetry import Trace

if TYPE_CHECKING:
    from starlette.requests import Request

    from doorward.asgi.door import Door
    from doorward.runtime.authenticator import Handshake
    from doorward.runtime.verifier import Verifier

ADMIN = "admin"
CHANGE_HEADER = "x-doorward-change"
GRANT_SECONDS = 30.0
"""So long an admin is not asked about again; a page looks once a second."""

PROVISIONAL_SECONDS = 5.0
KEPT_GRANTS = 256

OPS_ROUTE = Route(path="/ops/*", transports=frozenset({Transport.HEADER}), required_scopes=frozenset({ADMIN}))

log = get_logger("doorward")


class How(StrEnum):
    OPS_TOKEN = "ops_token"  # noqa: S105 - a word, not a secret
    ADMIN = "admin"
    THIS_HOST = "this_host"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who may look. `until` wall-clock seconds, `None` without an end."""

    how: How
    name: str | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class _Grant:
    verifier: Verifier
    principal: Principal
    good_at: float
    until: float


class Access:
    """Args: key: of the ops tokens; change_token: what `doorward up` printed, and nobody else has one."""

    def __init__(self, door: Door, *, key: bytes | None, change_token: str | None = None) -> None:
        self._door = door
        self._key = key
        self._change_token = change_token
        self._extra_origins = frozenset(door.settings.allowed_origins)
        self._grants: Lru[bytes, _Grant] = Lru(KEPT_GRANTS)
        self._noted: Lru[tuple[How, str | None, str], bool] = Lru(KEPT_GRANTS)

    async def viewer(self, request: Request) -> Viewer | Response:
        """Who this is, or the refusal. At most the deadline of a handshake.

        Cancellation: the question about the token goes on for whoever shares it; nothing else is left behind.
        """
        handshake = self._door.reader.read(request.scope)
        if not allowed(handshake.origin, scheme=handshake.scheme, host=handshake.host, extra=self._extra_origins):
            return self._refused(Deny(Code.ORIGIN_DENIED, Source.ORIGIN))
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        presented = given.strip() if scheme.lower() == "bearer" else ""
        if presented.startswith(token.PREFIX):
            viewer = self._holder(presented)
        elif self._change_token is not None and is_this_host(request):
            viewer = Viewer(How.THIS_HOST)
        else:
            viewer = await self._admin(presented, handshake)
        if isinstance(viewer, Viewer):
            self._note(viewer, handshake.address)
        return viewer

    def may_change(self, viewer: Viewer, request: Request) -> bool:
        """May this viewer change something, with this request?"""
        given = request.headers.get(CHANGE_HEADER, "")
        if self._change_token is None or viewer.how is How.OPS_TOKEN:
            return False
        return hmac.compare_digest(given.encode(), self._change_token.encode())

    def _holder(self, presented: str) -> Viewer | Response:
        if self._key is None:
            return problem(401, "TOKEN_INVALID", "Ops tokens are off here; the log says why.", headers=_BEARER)
        try:
            claims = token.verify(self._key, presented, now=self._door.clock.wall())
        except CredentialError as error:
            return problem(401, "TOKEN_INVALID", _sentence(str(error)), headers=_BEARER)
        return Viewer(How.OPS_TOKEN, claims.id, claims.expires_at)

    async def _admin(self, presented: str, handshake: Handshake) -> Viewer | Response:
        slot = hashlib.sha256(presented.encode()).digest()
        grant = self._grants.get(slot)
        if grant is None or not self._still_good(grant):
            judged = await self._judged(handshake)
            if isinstance(judged, Deny | Unavailable):
                return self._refused(judged)
            self._grants.put(slot, grant := judged)
        return Viewer(How.ADMIN, grant.principal.email or grant.principal.user_id, grant.principal.expires_at)

    def _note(self, viewer: Viewer, address: str) -> None:
        """One line for each who looks, not one a second."""
        who = (viewer.how, viewer.name, address)
        if self._noted.get(who) is None:
            self._noted.put(who, True)
            log.info("ops viewer", how=viewer.how, name=viewer.name, address=address)

    def _still_good(self, grant: _Grant) -> bool:
        if self._door.clock.wall() >= grant.until:
            return False
        return not grant.verifier.is_revoked(grant.principal, grant.good_at)

    async def _judged(self, handshake: Handshake) -> _Grant | Deny | Unavailable:
        door = self._door
        if door.opened_at is None:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.INTERNAL, Cause.STORE, "the door is still opening")
        deadline = Deadline.after(door.clock.monotonic(), door.settings.deadline_seconds)
        judgement = await door.authenticator.decide(
            structs.replace(handshake, route=OPS_ROUTE), deadline, Trace(door.clock)
        )
        verdict = judgement.verdict
        if not isinstance(verdict, Allow):
            return verdict
        if verdict.principal.tenant is not None:
            return Deny(Code.FORBIDDEN, Source.POLICY, "an admin of a tenant is none of the door")
        now = door.clock.wall()
        until = now + (PROVISIONAL_SECONDS if verdict.provisional else GRANT_SECONDS)
        ends = [at for at in (until, verdict.principal.expires_at, verdict.grant_until) if at is not None]
        return _Grant(door.issuers[judgement.issuer].verifier, verdict.principal, now, min(ends))

    def _refused(self, verdict: Deny | Unavailable) -> Response:
        refusal = self._door.denier.refusal(verdict, new_decision_id())
        retry = refusal.retry_after_ms
        status = refusal.row.http or 403
        return problem(
            status,
            refusal.row.code,
            _TITLES.get(refusal.row.code, _sentence(refusal.row.situation)),
            cause=refusal.row.cause,
            retry_after_seconds=retry / 1000 if retry is not None else None,
            headers=_BEARER if status == 401 else None,
        )


_BEARER = {"WWW-Authenticate": "Bearer"}
_TITLES = {
    Code.AUTH_REQUIRED: "This page is for admins, and for holders of an ops token.",
    Code.FORBIDDEN: "You are signed in, but this page needs the permission `admin`.",
}


def is_this_host(request: Request) -> bool:
    """A loopback peer that forwards for nobody and asked for a loopback name. The name keeps out a page of the outside whose own
    name was made to point here."""
    names = request.headers.keys()
    forwards = any(name in FORWARDING_HEADERS or name.startswith("x-forwarded-") for name in names)
    hosts = request.headers.getlist("host")
    if forwards or request.client is None or len(hosts) != 1:
        return False
    return _is_loopback(request.client.host) and _is_loopback_name(hosts[0])


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _is_loopback_name(host: str) -> bool:
    """`localhost`, `127.0.0.1` or `[::1]`, with or without a port."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    elif not port.isdecimal():
        return False
    return name.lower() == "localhost" or _is_loopback(name.removeprefix("[").removesuffix("]"))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
