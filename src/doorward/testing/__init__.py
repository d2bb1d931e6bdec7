"""The fault kit: an auth service that misbehaves on request, proxies that break, clocks that obey."""

from doorward.testing.auth_service import Endpoint, FakeAuthService, ReceivedRequest
from doorward.testing.tokens import TokenMint, opaque_token
from doorward.testing.waiting import eventually

__all__ = [
    "Endpoint",
    "FakeAuthService",
    "ReceivedRequest",
    "TokenMint",
    "eventually",
    "opaque_token",
]
