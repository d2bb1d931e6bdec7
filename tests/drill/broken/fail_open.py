"""A door that lets everybody in while the auth service cannot be asked."""

from __future__ import annotations

from typing import Any

from doorward.__main__ import main
from doorward.core.verdict import Allow, Assurance, Principal, Source
from doorward.runtime.verifier import Verifier


def let_in(self: Verifier, *_: Any) -> Allow:
    return Allow(Principal("anybody", self.policy.claims.issuer), Assurance.LOCAL, Source.FALLBACK, degraded=True)


Verifier._fallback = let_in  # type: ignore[method-assign,assignment]
main()
