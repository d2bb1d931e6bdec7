"""Errors, from their classes."""

from __future__ import annotations

from collections.abc import Iterator

from doorward import errors
from doorward.core.verdict import Cause
from doorward.errors import BackendError, DoorwardError
from doorward.runtime.inquiry import classified, label_of
from reference_pages.markdown import MADE, plain, table

FAULTS = {
    errors.DoorwardError: "-",
    errors.ConfigError: "the operator's",
    errors.UsageError: "the caller's",
    errors.CredentialError: "the peer's",
    errors.LimitError: "ours",
    errors.BackendError: "nobody's here",
}
EXAMPLES = {errors.BadStatus: (500,), errors.Throttled: (429, 1.0)}
"""What it takes to raise one, where that is more than a message."""


def page() -> str:
    return f"""{MADE}

# Errors

Every exception that Doorward raises on purpose is in `doorward.errors`. The class shows whose fault it is. What is expected, a
refused token for instance, is a [verdict](../concepts/three-verdicts.md) and no exception.

{table(["class", "whose fault", "what it is"], ([_name(kind), fault, _meaning(kind)] for kind, fault in FAULTS.items()))}

The Python client raises `ChatError` and four classes below it: see [its page](client.md#errors).

`ClientDisconnected` (exported by `doorward`) is what an app gets that sends to a closed connection. It is an `OSError`, as ASGI
asks for.

## Could not ask

`BackendError` and its subclasses, by phase and kind. The metric label is that of
`doorward_auth_attempt_duration_seconds{{result}}`; the cause is what the client is told where nothing proves its token.

{table(["class", "metric label", "cause", "what happened"], map(_could_not_ask, _backend_errors()))}

The attempt labels `valid` and `invalid` are answers. What to do about each cause: [symptoms](../operations/symptoms.md).
"""


def _backend_errors() -> Iterator[type[BackendError]]:
    """In the order of the module, which is that of a question."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, DoorwardError):
            if issubclass(kind, BackendError):
                yield kind
            elif kind not in FAULTS:
                raise LookupError(f"whose fault is a {kind.__name__}?")


def _could_not_ask(kind: type[BackendError]) -> list[str]:
    error = kind(*EXAMPLES.get(kind, ("",)))
    cause = Cause.STORE if isinstance(error, errors.StoreError) else classified(error).cause
    return [_name(kind), f"`{label_of(error)}`", f"`{cause}`", _meaning(kind)]


def _name(kind: type[Exception]) -> str:
    return f"`{kind.__name__}`"


def _meaning(kind: type[Exception]) -> str:
    return plain(" ".join((kind.__doc__ or "").split()))
