"""A door that says "your token is bad" when it could not ask."""

from __future__ import annotations

from typing import Any

from doorward.__main__ import main
from doorward.core.verdict import Code, Deny, Source
from doorward.runtime.verifier import Verifier


def refuse(*_: Any) -> Deny:
    return Deny(Code.TOKEN_INVALID, Source.FALLBACK)


Verifier._fallback = refuse  # type: ignore[method-assign,assignment]
main()
