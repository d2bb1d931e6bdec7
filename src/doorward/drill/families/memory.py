"""What must survive a restart, and what a door does that remembers nothing."""

from __future__ import annotations

from collections.abc import Sequence

from doorward.core.verdict import Cause
from doorward.drill.expectations import Circumstances, expectations
from doorward.drill.families.common import BEGIN, SOME, outage, well
from doorward.drill.faults import TROUBLES, Reach
from doorward.drill.results import Kind, Phase
from doorward.drill.scenarios import Baseline, Burst, Crowd, Refuse, Repair, Restart, Rules, Scenario, Strike

CROWD: Crowd = {**SOME, Kind.REJECTED: 3, Kind.REVOKED: 3}


def scenarios() -> Sequence[Scenario]:
    return [
        Scenario(
            name="rejected-then-outage",
            family="memory",
            title="a token that was refused stays out in a later outage",
            steps=(
                *BEGIN,
                Refuse(3, 3),
                Strike("silence"),
                Burst(Phase.FAULT, CROWD),
                Repair(),
                Burst(Phase.HEALED, CROWD),
            ),
            rules=outage("silence"),
        ),
        _restarted("restart-in-outage", "the door is restarted in the middle of an outage", kill=False),
        _restarted("killed-in-outage", "the door is killed in the middle of an outage, and started again", kill=True),
        _cold_name("cold-start-dns-stall", "the door starts while no name server answers", "dns-stall"),
        _cold_name("cold-start-dns-nxdomain", "the door starts while the name is gone", "dns-nxdomain"),
        _never_met(),
    ]


def _restarted(name: str, title: str, *, kill: bool) -> Scenario:
    return Scenario(
        name=name,
        family="memory",
        title=title,
        steps=(
            *BEGIN,
            Refuse(3, 3),
            Strike("silence"),
            Burst(Phase.FAULT, CROWD),
            Restart(kill=kill),
            Burst(Phase.FAULT, CROWD),
            Repair(),
            Burst(Phase.HEALED, CROWD),
        ),
        rules=outage("silence", remembers=False),
        quick=kill,
    )


def _cold_name(name: str, title: str, trouble: str) -> Scenario:
    return Scenario(
        name=name,
        family="memory",
        title=title,
        steps=(*BEGIN, Strike(trouble), Restart(), Burst(Phase.FAULT, SOME), Repair(), Burst(Phase.HEALED, SOME)),
        rules=outage(trouble, remembers=False),
        trouble=trouble,
    )


def _never_met() -> Scenario:
    """Nothing proves anything yet, so nobody is let in; and nobody is called invalid either."""
    causes = TROUBLES["refused"].causes | {Cause.BREAKER_OPEN, Cause.STALE}
    during = Circumstances(Reach.NEVER, causes, keyset=False)
    healed = well()
    # Without a key set every JWT is asked about; it comes with the first refresh after the repair.
    unread = expectations(Circumstances(Reach.ALWAYS, frozenset(), keyset=False))
    expect = {**expectations(during)}
    met = expectations(Circumstances(Reach.NEVER, causes))
    for kind in SOME:
        expect[Phase.HEALED, kind] = healed[Phase.HEALED, kind] | unread[Phase.HEALED, kind]
        # The canary may have met it when the half-open breaker has no permit for a second question.
        expect[Phase.REPAIR, kind] = expect[Phase.FAULT, kind] | met[Phase.FAULT, kind] | expect[Phase.HEALED, kind]
    return Scenario(
        name="never-met",
        family="memory",
        title="the auth service is away when the door starts for the first time",
        steps=(
            Burst(Phase.FAULT, SOME),
            Repair(),
            Burst(Phase.HEALED, SOME),
            Baseline(),
            Burst(Phase.HEALED, SOME),
        ),
        rules=Rules(expect),
        starts_well=False,
        trouble="refused",
    )
