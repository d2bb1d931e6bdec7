"""The fault kit: an auth service that misbehaves on request, proxies that break, clocks that obey."""

from doorward.testing.auth_service import Endpoint, FakeAuthService, ReceivedRequest
from doorward.testing.faults import CannedAnswer, Fault, FaultKind
from doorward.testing.proxy import FaultProxy, ProxyCounts
from doorward.testing.tokens import TokenMint, opaque_token
from doorward.testing.waiting import eventually

__all__ = [
    "CannedAnswer",
    "Endpoint",
    "FakeAuthService",
    "Fault",
    "FaultKind",
    "FaultProxy",
    "ProxyCounts",
    "ReceivedRequest",
    "TokenMint",
    "eventually",
    "opaque_token",
]
