"""Options of `doorward drill` that would be ignored are refused, and the reason says which and why."""

from __future__ import annotations

import pytest

from doorward.cli.drill_options import refuse_contradictions
from doorward.errors import UsageError


@pytest.mark.parametrize(
    ("given", "only", "words"),
    [
        ({"--target", "--baseline"}, [], "--baseline does not go with --target"),
        ({"--target", "--jobs"}, [], "one fault proxy"),
        ({"--target", "--prometheus-targets"}, [], "--prometheus-targets does not go with --target"),
        ({"--token-file"}, [], "only with --target: --token-file"),
        ({"--deadline", "--listen-port"}, [], "only with --target: --deadline, --listen-port"),
        ({"--compare", "--json", "--quick"}, [], "leave out --json, --quick"),
        ({"--compare", "--target"}, [], "leave out --target"),
        ({"--max-ratio"}, [], "--max-ratio goes with --compare"),
        ({"--only"}, ["silence", "beside/drip"], "beside/drip is played on other doors too: add --baseline"),
    ],
)
def test_what_does_not_go_together_is_refused(given: set[str], only: list[str], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        refuse_contradictions(given, only)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("given", "only"),
    [
        (set[str](), []),
        ({"--quick", "--json", "--html", "--seed", "--jobs"}, []),
        ({"--baseline", "--only"}, ["beside/drip", "beside"]),
        ({"--target", "--auth-upstream", "--token-file", "--listen-port", "--deadline", "--quick", "--only"}, ["drip"]),
        ({"--compare", "--max-ratio"}, []),
    ],
)
def test_what_goes_together_passes(given: set[str], only: list[str]) -> None:
    refuse_contradictions(given, only)
