"""Close codes, from the verdict table."""

from __future__ import annotations

from collections.abc import Sequence

from doorward.core.verdict import TABLE, Action, Row, close_code
from reference_pages.markdown import MADE, table

ACTIONS = {
    Action.RETRY: "Keep the credential. Connect again after `retry_after_ms`, or with full-jitter back-off where there is none.",
    Action.SIGN_IN: (
        "Try one refresh, then connect again. Show the sign-in page only if the refresh itself was answered with "
        "`invalid_grant`."
    ),
    Action.STOP: "Do not connect again: waiting and signing in mend nothing.",
}

FRAME = (
    '{"type":"auth.error","code":"SERVICE_UNAVAILABLE","cause":"deadline",'
    '"retry_after_ms":1840,"action":"retry","decision_id":"..."}'
)


def page() -> str:
    head = ["situation", "HTTP", "close", 'close, `"http"`', "code", "cause", "client", "retry after", "for operations"]
    return f"""{MADE}

# Refusals: close codes, HTTP statuses and what a client does

Every refusal is one row of this table. A *no* (the credential, the origin or the permissions are not good) and a
*could not ask* (the auth service gave no answer) never share a code.

{table(head, map(_refusal, TABLE))}

`close` is the default, `close_codes = "iana"`; the column beside it is `close_codes = "http"`. A dash means that the
situation cannot arise there.

## What a client does

{table(["client", "meaning"], ((f"`{action}`", text) for action, text in ACTIONS.items()))}

A connection that ends with 1006 was cut without a close frame: treat it as `retry`.

## Where it stands

* **Close reason**, at most 123 bytes: `SERVICE_UNAVAILABLE;retry_after_ms=1840;id=<decision id>`.
* **Last text frame** before the close, for clients that offered a `doorward.` subprotocol: `{FRAME}`.
* **HTTP**, before the handshake: `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `code`, `cause`,
  `retry_after_ms` and `decision_id`, and `Retry-After` in seconds.

`retry_after_ms` is the row's least wait plus a random part of its window. When many clients were told to wait, the
window grows to the time that they need at `limits.reconnect_rate_per_second`, up to 300 s.
"""


def _refusal(row: Row) -> Sequence[object]:
    closes = [close_code(row), close_code(row, style="http")] if row.close else ["-", "-"]
    cause = f"`{row.cause}`" if row.cause else "-"
    return [row.situation, row.http or "-", *closes, f"`{row.code}`", cause, f"`{row.action}`", _window(row), row.ops]


def _window(row: Row) -> str:
    if row.retry_seconds is None:
        return "-"
    least, most = row.retry_seconds
    return f"{least:g} s" if least == most else f"{least:g}-{most:g} s"
