"""Which options of `doorward drill` go together: an option that would be ignored is refused, with the reason."""

from __future__ import annotations

from collections.abc import Collection

from doorward.drill.beside import FAMILY
from doorward.errors import UsageError

_OF_TARGET = ("--auth-upstream", "--token-file", "--listen-port", "--deadline")
_NOT_OF_TARGET = {
    "--baseline": "the doors beside ours are started here, and yours has been started elsewhere",
    "--jobs": "there is one fault proxy before one auth service, so the faults are played one after the other",
    "--prometheus-targets": "Prometheus scrapes your door where it always does",
    "--door-command": "the door at the target is not started here",
}
_OF_COMPARISON = frozenset({"--compare", "--max-ratio"})


def refuse_contradictions(given: Collection[str], only: Collection[str] = ()) -> None:
    """
    Args:
        given: the options that stand on the command line.
        only: the patterns of `--only`.

    Raises:
        UsageError: two of them do not go together.
    """
    if "--compare" in given:
        _refuse(given, set(given) - _OF_COMPARISON, "--compare plays nothing; leave out")
    elif "--max-ratio" in given:
        raise UsageError("--max-ratio goes with --compare")
    if "--target" not in given:
        _refuse(given, _OF_TARGET, "only with --target:")
    for option, reason in _NOT_OF_TARGET.items():
        if "--target" in given and option in given:
            raise UsageError(f"{option} does not go with --target: {reason}")
    beside = [pattern for pattern in only if pattern.partition("/")[0] == FAMILY]
    if beside and "--baseline" not in given:
        raise UsageError(f"{beside[0]} is played on other doors too: add --baseline")


def _refuse(given: Collection[str], unwanted: Collection[str], why: str) -> None:
    found = sorted(option for option in given if option in unwanted)
    if found:
        raise UsageError(f"{why} {', '.join(found)}")
