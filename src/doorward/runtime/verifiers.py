"""All whose tokens count at this door: which of them a token goes to, by what it says of itself; the signature then decides."""

from __future__ import annotations

from collections.abc import Sequence

from doorward.core.unverified import unverified_issuer
from doorward.core.verdict import Code, Deny, Source
from doorward.runtime.verifier import Verifier


class Verifiers:
    """Args: opaque: whose the tokens are that are no JWTs; `None`: nobody's."""

    def __init__(self, verifiers: Sequence[Verifier], *, opaque: Verifier | None) -> None:
        self.testing = next((verifier for verifier in verifiers if verifier.takes_test_tokens), None)
        """The one in whose outages test tokens count."""
        self._only = verifiers[0] if len(verifiers) == 1 and opaque is not None else None
        self._by_issuer = {verifier.policy.claims.issuer: verifier for verifier in verifiers}
        self._opaque = opaque

    def of(self, token: str) -> Verifier | Deny:
        """By the exact `iss` of a JWT. Nobody is asked about a token that is nobody's.

        Where there is only one, it looks at `iss` itself, after the signature.
        """
        if self._only is not None:
            return self._only
        issuer = unverified_issuer(token)
        if issuer is None:
            return self._opaque or _invalid("it is no JWT, and opaque tokens are taken of no issuer")
        return self._by_issuer.get(issuer) or self._stranger(issuer)

    def _stranger(self, issuer: str) -> Deny:
        """Nearly right is the usual mistake."""
        for known, verifier in self._by_issuer.items():
            if known.rstrip("/").casefold() == issuer.rstrip("/").casefold():
                return _invalid(
                    f"iss differs from that of {verifier.name} by a slash at its end or by case, so it is another"
                )
        return _invalid("iss is none of the issuers")


def _invalid(detail: str) -> Deny:
    return Deny(Code.TOKEN_INVALID, Source.LOCAL, detail)
