"""A door without a deadline: it waits as long as the auth service likes."""

from __future__ import annotations

from doorward.__main__ import main
from doorward.asgi import middleware
from doorward.core.deadline import Deadline


class Patient(Deadline, frozen=True):
    @classmethod
    def after(cls, now: float, seconds: float) -> Deadline:
        return Deadline(now + seconds * 10)


middleware.Deadline = Patient  # type: ignore[attr-defined]
main()
