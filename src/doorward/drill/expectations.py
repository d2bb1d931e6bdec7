"""What the table of verdicts allows, for each kind of token, when the auth service can be reached and when it cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from doorward.core.verdict import Cause, Code
from doorward.drill.faults import Reach
from doorward.drill.results import Kind, Phase
from doorward.drill.scenarios import Expectations

ALL_KINDS = tuple(Kind)
OVERLOADED = f"unavailable:{Code.OVERLOADED}"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides which answers are right during a fault.

    `crowded`: more unproven tokens at once than their lane holds. `remembers`: verdicts from before the fault are still in memory.
    """

    reach: Reach
    causes: frozenset[Cause]
    keyset: bool = True
    crowded: bool = False
    remembers: bool = True


def expectations(during: Circumstances, *, kinds: Iterable[Kind] = ALL_KINDS) -> Expectations:
    """What may be answered in each phase."""
    table: dict[tuple[Phase, Kind], frozenset[str]] = {}
    for kind in kinds:
        well = reachable(kind, keyset=during.keyset) | _crowd(kind, during)
        sick = _during(kind, during)
        table[Phase.HEALTHY, kind] = table[Phase.HEALED, kind] = well
        table[Phase.FAULT, kind] = sick
        table[Phase.REPAIR, kind] = well | sick
    return table


def reachable(kind: Kind, *, keyset: bool = True) -> frozenset[str]:
    """The auth service answers, in time."""
    unread = _deny(Code.TOKEN_REJECTED)
    answers = {
        Kind.JWT: frozenset({"allow:live"}),
        Kind.NEW_KEY: frozenset({"allow:live"}),
        Kind.OPAQUE: frozenset({"allow:live"}),
        Kind.WARM_JWT: frozenset({"allow:live", "allow:cached"}),
        Kind.WARM_OPAQUE: frozenset({"allow:live", "allow:cached"}),
        Kind.STRANGER: unread,
        Kind.FORGED: _deny(Code.TOKEN_INVALID) if keyset else unread,
        Kind.EXPIRED: _deny(Code.TOKEN_EXPIRED) if keyset else unread,
        Kind.NO_TOKEN: _deny(Code.AUTH_REQUIRED),
        Kind.REJECTED: unread,
        Kind.REVOKED: _deny(Code.TOKEN_REVOKED) if keyset else unread,
    }
    return answers[kind]


def unreachable(kind: Kind, during: Circumstances) -> frozenset[str]:
    """The auth service cannot be asked, now or ever: what is proven comes in, nobody else does, and nobody is told *invalid*."""
    nobody_knows = _unavailable(during.causes, crowded=during.crowded)
    unread_jwt = nobody_knows | _unavailable({Cause.KEYSET}, crowded=during.crowded)
    proven = frozenset({"allow:local"}) if during.keyset else unread_jwt
    answers = {
        Kind.JWT: proven,
        Kind.NEW_KEY: _unavailable({Cause.KEYSET}, crowded=False),
        Kind.OPAQUE: nobody_knows,
        Kind.WARM_JWT: frozenset({"allow:cached"}) if during.remembers else proven,
        Kind.WARM_OPAQUE: frozenset({"allow:cached"}) if during.remembers else nobody_knows,
        Kind.STRANGER: nobody_knows,
        Kind.FORGED: _deny(Code.TOKEN_INVALID) if during.keyset else unread_jwt,
        Kind.EXPIRED: _deny(Code.TOKEN_EXPIRED) if during.keyset else unread_jwt,
        Kind.NO_TOKEN: _deny(Code.AUTH_REQUIRED),
        Kind.REJECTED: _deny(Code.TOKEN_REJECTED),
        Kind.REVOKED: _deny(Code.TOKEN_REVOKED) if during.keyset else unread_jwt,
    }
    return answers[kind]


def _during(kind: Kind, during: Circumstances) -> frozenset[str]:
    if during.reach is Reach.NEVER:
        return unreachable(kind, during)
    well = reachable(kind, keyset=during.keyset) | _crowd(kind, during)
    if during.reach is Reach.SOMETIMES:
        return well | unreachable(kind, during)
    if kind in {Kind.JWT, Kind.WARM_JWT, Kind.WARM_OPAQUE}:  # past their patience they are let in on what is proven
        return well | frozenset(answer for answer in unreachable(kind, during) if answer.startswith("allow:"))
    return well


_REFUSED_LOCALLY = frozenset({Kind.FORGED, Kind.EXPIRED, Kind.REVOKED})


def _crowd(kind: Kind, during: Circumstances) -> frozenset[str]:
    """Whoever has to be asked about in the unproven lane may find it full."""
    refused_unasked = during.keyset and kind in _REFUSED_LOCALLY
    return frozenset() if not during.crowded or kind is Kind.NO_TOKEN or refused_unasked else frozenset({OVERLOADED})


def _deny(code: Code) -> frozenset[str]:
    return frozenset({f"deny:{code}"})


def _unavailable(causes: Iterable[Cause], *, crowded: bool) -> frozenset[str]:
    told = {f"unavailable:{Code.SERVICE_UNAVAILABLE}/{cause}" for cause in causes}
    return frozenset(told | {OVERLOADED} if crowded else told)
