import pytest
from websockets.exceptions import ConnectionClosed

from doorward.testing import Fault


def test_a_user_is_answered(door):
    with door.connect(door.token("ada")) as ws:
        ws.send("hello")
        assert ws.recv(timeout=5) == "ada: hello"


def test_strangers_stay_out(door):
    assert door.refusal(None).code == "AUTH_REQUIRED"
    assert door.refusal(door.forged("ada")).code == "TOKEN_INVALID"
    assert door.refusal(door.token("ada", ttl_seconds=-60)).code == "TOKEN_EXPIRED"
    assert door.refusal(door.token("ada", permissions=("read",))).code == "FORBIDDEN"


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.SILENCE])
def test_a_sick_auth_service_hangs_nobody(door, fault):
    with door.broken(fault):
        refusal = door.refusal(door.auth.issue_opaque("bob"))
        assert (refusal.status, refusal.code) == (503, "SERVICE_UNAVAILABLE")
        assert refusal.retry_after_ms > 0
    with door.connect(door.token("bob")):
        pass


def test_who_is_thrown_out_is_out(door):
    with door.connect(door.token("eve")) as ws:
        door.revoke("eve")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=5)
    assert closed.value.rcvd.code == 3000
    assert closed.value.rcvd.reason.startswith("TOKEN_REVOKED")
