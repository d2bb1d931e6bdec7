"""The fault kit: an auth service that misbehaves on request, proxies that break, clocks that obey."""

from doorward.testing.auth_service import FakeAuthService
from doorward.testing.clock import ManualClock
from doorward.testing.connection import ProxyCounts
from doorward.testing.dns import DnsFault, DnsFaultKind, FaultDns
from doorward.testing.faults import CannedAnswer, Fault, FaultKind
from doorward.testing.leaks import no_leaks, open_files
from doorward.testing.proxy import FaultProxy
from doorward.testing.received import Endpoint, ReceivedRequest
from doorward.testing.tls import ThrowawayTls, throwaway_tls
from doorward.testing.tokens import TokenMint, opaque_token
from doorward.testing.virtual import StuckError, VirtualClock, VirtualLoop, VirtualTimeLimitError, run_virtual
from doorward.testing.waiting import eventually

__all__ = [
    "CannedAnswer",
    "DnsFault",
    "DnsFaultKind",
    "Endpoint",
    "FakeAuthService",
    "Fault",
    "FaultDns",
    "FaultKind",
    "FaultProxy",
    "ManualClock",
    "ProxyCounts",
    "ReceivedRequest",
    "StuckError",
    "ThrowawayTls",
    "TokenMint",
    "VirtualClock",
    "VirtualLoop",
    "VirtualTimeLimitError",
    "eventually",
    "no_leaks",
    "opaque_token",
    "open_files",
    "run_virtual",
    "throwaway_tls",
]
