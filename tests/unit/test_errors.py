from __future__ import annotations

import inspect

import pytest

from doorward import errors
from doorward.errors import (
    BackendError,
    BadAnswer,
    BadStatus,
    DoorwardError,
    IdentityMismatch,
    Throttled,
)

FAULTS = (errors.ConfigError, errors.UsageError, errors.CredentialError, errors.LimitError, errors.BackendError)
ALL = [found for _, found in inspect.getmembers(errors, inspect.isclass) if found.__module__ == errors.__name__]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_is_ours_documented_and_of_one_fault(error: type[Exception]) -> None:
    assert issubclass(error, DoorwardError)
    assert error.__doc__
    if error is not DoorwardError:
        assert sum(issubclass(error, fault) for fault in FAULTS) == 1


def test_no_error_can_be_mistaken_for_one_of_pythons_own() -> None:
    """A bare `except OSError` or `except ValueError` must not swallow a verdict."""
    for error in ALL:
        assert [base for base in error.__mro__ if base.__module__ == "builtins"] == [Exception, BaseException, object]


def test_errors_of_the_auth_service_say_what_happened() -> None:
    assert str(BadStatus(502)) == "the auth service answered 502"
    assert str(BadStatus(502, "the proxy answered 502")) == "the proxy answered 502"
    assert BadStatus(502).status == 502
    assert str(Throttled(429, 1.5)) == "the auth service answered 429 and asked to wait 1.5 s"
    assert (Throttled(503, 30.0).status, Throttled(503, 30.0).retry_after_seconds) == (503, 30.0)


def test_an_answer_about_somebody_else_is_an_answer_outside_the_contract() -> None:
    assert issubclass(IdentityMismatch, BadAnswer)
    assert issubclass(BadAnswer, BackendError)
