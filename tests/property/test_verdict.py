from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.core.reconnect import MAX_SECONDS, retry_after
from doorward.core.verdict import TABLE, Action, Cause, Code, Source, Unavailable, close_code, close_reason, row_of

LIMITS = settings(max_examples=200, deadline=None)

# What a client may be told when nobody could be asked. Everything else is a *no*, and has a type of its own.
OUTAGES = [Code.SERVICE_UNAVAILABLE, Code.OVERLOADED, Code.RATE_LIMITED, Code.INTERNAL, Code.RESTARTING]


@given(
    st.builds(
        Unavailable,
        st.sampled_from(OUTAGES),
        st.sampled_from(Source),
        st.none() | st.sampled_from(Cause),
        st.text(max_size=10),
        st.none() | st.floats(0, 1e9),
    )
)
@LIMITS
def test_could_not_ask_never_tells_a_client_to_give_up_or_to_sign_in(refusal: Unavailable) -> None:
    row = row_of(refusal)

    assert row in TABLE
    assert row.action is Action.RETRY
    assert row.http not in {401, 403}
    for code in (close_code(row), close_code(row, style="http")):
        assert code not in {1000, 1008, 3000, 3003, 4401, 4403}


@given(st.sampled_from(Code), st.text(max_size=300), st.none() | st.integers(0, 10**30))
@LIMITS
def test_a_close_reason_fits_into_a_close_frame(code: Code, decision_id: str, retry_after_ms: int | None) -> None:
    reason = close_reason(code, decision_id.encode("utf-8", "ignore").decode(), retry_after_ms)

    assert len(reason.encode()) <= 123
    assert reason.startswith(code)


@given(
    st.sampled_from([row.retry_seconds for row in TABLE if row.retry_seconds]),
    st.integers(0, 10**9),
    st.floats(0.01, 1e6),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 1e9),
)
@LIMITS
def test_advice_is_never_sooner_than_the_row_and_never_for_ever(
    window: tuple[float, float], waiting: int, rate: float, uniform: float, asked: float | None
) -> None:
    seconds = retry_after(window, waiting=waiting, rate_per_second=rate, uniform=uniform, asked_seconds=asked)

    assert window[0] <= seconds <= MAX_SECONDS
