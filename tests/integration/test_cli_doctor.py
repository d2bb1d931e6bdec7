"""`doorward doctor` against auth services that work, fail and hang: one sentence, the mend, in under five seconds."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.cli_support import Outcome, assert_in_time, environment, serving
from tests.cli_support import doorward as run_doorward

from doorward.core.proxies import ENOUGH
from doorward.testing import DnsFault, Endpoint, FakeAuthService, Fault, FaultDns, FaultProxy, throwaway_tls

SECRET = "a-secret-never-to-be-shown"
LIMIT_SECONDS = 5.0
NO_DOOR = 9
"""A port where nobody listens: the discard service of old."""

REFUSED = (
    "The auth service refuses our own service credential: "
    "check auth.service_id and auth.service_secret (doorward authd init makes a pair)."
)


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthService]:
    async with FakeAuthService(service_secret=SECRET) as service:
        yield service


@pytest.fixture
async def proxy(auth: FakeAuthService) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(auth.host, auth.port) as proxy:
        yield proxy


async def doctor(cwd: Path, url: str, *arguments: str, **variables: str) -> Outcome:
    """Each run keeps the two promises that hold whatever is wrong: the time, and the secret."""
    others = {"auth__service_secret": SECRET, "serve__port": str(NO_DOOR)} | variables
    outcome = await run_doorward("doctor", *arguments, cwd=cwd, auth__url=url, **others)
    await assert_in_time(outcome, LIMIT_SECONDS, cwd)
    assert SECRET not in outcome.out + outcome.err
    return outcome


async def report(cwd: Path, url: str, **variables: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, verdict, and the steps by name."""
    outcome = await doctor(cwd, url, "--json", **variables)
    content = outcome.json
    assert outcome.err == ""
    assert content["exit_code"] == outcome.code
    (only,) = content["issuers"]
    assert (only["issuer"], only["verdict"]) == ("auth", content["verdict"])
    return outcome.code, content["verdict"], {step["step"]: step for step in only["steps"]}


def statuses(steps: dict[str, Any]) -> dict[str, str]:
    return {name: step["status"] for name, step in steps.items()}


async def test_healthy(auth: FakeAuthService, tmp_path: Path) -> None:
    code, verdict, steps = await report(tmp_path, auth.url)
    assert (code, verdict) == (
        0,
        f"All is well: the auth service at {auth.url} answers, knows us, and keeps to the contract.",
    )
    assert statuses(steps) == {
        "settings": "ok", "dns": "ok", "tcp": "ok", "tls": "skipped", "credential": "ok", "contract": "ok", "health": "ok",
        "key set": "ok", "clock": "ok", "revocations": "ok", "clients": "skipped",
    }  # fmt: skip
    assert steps["key set"]["facts"]["kids"] == [key["kid"] for key in auth.mint.key_set()["keys"]]
    assert [name for name, step in steps.items() if not step["duration_ms"] and step["status"] != "skipped"] == []
    assert auth.calls[Endpoint.VALIDATE] == 2


async def test_the_verdict_comes_first_for_people(auth: FakeAuthService, tmp_path: Path) -> None:
    auth.refuse_service_credential = True
    outcome = await doctor(tmp_path, auth.url)
    assert outcome.code == 1
    assert outcome.out.splitlines()[0] == REFUSED
    assert "revocations" in outcome.out


async def test_a_wrong_secret_is_named(auth: FakeAuthService, tmp_path: Path) -> None:
    code, verdict, steps = await report(tmp_path, auth.url, auth__service_secret="another")
    assert (code, verdict) == (1, REFUSED)
    assert [statuses(steps)[name] for name in ("credential", "contract", "health")] == ["fail", "skipped", "ok"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.REFUSE, "Nobody accepts connections at"),
        (Fault.BLACK_HOLE, "does not answer a connection attempt within "),
        (Fault.RESET, "breaks "),
        (Fault.SILENCE, "accepts connections and does not answer /auth/validate within "),
        (Fault.HEADER_STALL, "accepts connections and does not answer /auth/validate within "),
        (Fault.DRIP, "accepts connections and does not answer /auth/validate within "),
        (Fault.status(500), "answers 500 to /auth/validate"),
        (Fault.status(503, headers={"Retry-After": "7"}), "answers 503 to /auth/validate: it asks us to slow down"),
        (Fault.status(404), "to /auth/validate is not the contract (the auth service answered 404"),
        (Fault.body(b"<html>"), "is not the contract (the answer is not JSON)"),
    ],
    ids=str,
)
async def test_trouble_has_one_sentence(proxy: FaultProxy, tmp_path: Path, fault: Fault, words: str) -> None:
    proxy.fault = fault
    code, verdict, steps = await report(tmp_path, proxy.url)
    assert code == 1
    assert words in verdict
    assert verdict.endswith(".")
    assert statuses(steps)["credential"] == "skipped", "nothing was said about it"
    assert statuses(steps)["contract"] == ("skipped" if statuses(steps)["tcp"] == "fail" else "fail")


async def test_a_string_for_a_boolean_is_not_the_contract(auth: FakeAuthService, tmp_path: Path) -> None:
    auth.answer_with(200, {"valid": "true", "user_id": "eve"})
    code, verdict, _ = await report(tmp_path, auth.url)
    assert code == 1
    assert "is not the contract (`valid` is not a boolean)" in verdict


async def test_a_service_that_accepts_anything_is_trouble(auth: FakeAuthService, tmp_path: Path) -> None:
    auth.answer_with(200, {"valid": True, "user_id": "eve"})
    code, verdict, _ = await report(tmp_path, auth.url)
    assert code == 1
    assert verdict.startswith("The auth service calls a random token valid")


async def test_slow_but_right_is_a_warning(auth: FakeAuthService, tmp_path: Path) -> None:
    auth.latency_seconds = 1.2
    code, verdict, steps = await report(tmp_path, auth.url)
    assert code == 0
    assert f"The auth service at {auth.url} works, but: The auth service takes 1." in verdict
    assert (statuses(steps)["credential"], statuses(steps)["contract"]) == ("ok", "warn")


async def test_sick_by_its_own_word(auth: FakeAuthService, tmp_path: Path) -> None:
    auth.healthy = False
    code, verdict, _ = await report(tmp_path, auth.url)
    assert (code, verdict) == (1, "The auth service answers 503 to /auth/health: look at its own log and load.")


async def test_no_health_page_is_a_warning_that_names_the_setting(auth: FakeAuthService, tmp_path: Path) -> None:
    code, verdict, steps = await report(tmp_path, auth.url, auth__health_path="/not/there")
    assert (code, statuses(steps)["health"]) == (0, "warn")
    assert "There is nothing at /not/there" in verdict
    assert verdict.endswith("in auth.health_path.")


@pytest.mark.parametrize(("verify", "code", "status"), [("remote", 0, "warn"), ("local", 1, "fail")])
async def test_no_key_set_matters_where_it_alone_decides(
    auth: FakeAuthService, tmp_path: Path, verify: str, code: int, status: str
) -> None:
    found, verdict, steps = await report(tmp_path, auth.url, auth__jwks_url=f"{auth.url}/not/there", verify=verify)
    assert (found, statuses(steps)["key set"]) == (code, status)
    assert "/not/there" in verdict


@pytest.mark.parametrize(
    ("document", "words"),
    [({"keys": []}, "has no key that can verify a signature"), ({"kids": 1}, "has no `keys` list")],
    ids=["empty", "other"],
)
async def test_a_useless_key_set(auth: FakeAuthService, tmp_path: Path, document: dict[str, Any], words: str) -> None:
    auth.answer_with(200, document, endpoint=Endpoint.JWKS)
    code, verdict, steps = await report(tmp_path, auth.url)
    assert code == 1
    assert words in verdict
    assert statuses(steps)["credential"] == "ok"


async def test_keys_of_other_algorithms(auth: FakeAuthService, tmp_path: Path) -> None:
    code, verdict, _ = await report(tmp_path, auth.url, auth__algorithms="RS512")
    assert code == 1
    assert "can sign with RS512: check auth.algorithms" in verdict


@pytest.mark.parametrize(("required", "expected"), [("auto", 0), ("on", 1)])
async def test_no_feed(auth: FakeAuthService, tmp_path: Path, required: str, expected: int) -> None:
    auth.feed = False
    code, verdict, _ = await report(tmp_path, auth.url, auth__revocations=required)
    assert code == expected
    assert "There is no revocation feed" in verdict


@pytest.mark.parametrize(
    ("skew_seconds", "status", "words"),
    [(20, "warn", " s ahead of ours, so fresh tokens"), (-60, "fail", "behind ours, more than the leeway")],
)
async def test_clock_skew(auth: FakeAuthService, tmp_path: Path, skew_seconds: int, status: str, words: str) -> None:
    answers: dict[Endpoint, tuple[int, dict[str, Any]]] = {
        Endpoint.VALIDATE: (200, {"valid": False}),
        Endpoint.HEALTH: (200, {}),
        Endpoint.JWKS: (200, dict(auth.mint.key_set())),
        Endpoint.REVOCATIONS: (404, {}),
    }
    began = time.time()
    for endpoint, (code, body) in answers.items():
        auth.answer_with(code, body, {"Date": formatdate(began + skew_seconds, usegmt=True)}, endpoint=endpoint)
    _, verdict, steps = await report(tmp_path, auth.url)
    assert steps["clock"]["status"] == status
    passed = time.time() - began  # the answers' date stands still meanwhile
    assert -1 <= skew_seconds - steps["clock"]["facts"]["skew_seconds"] <= passed + 1
    assert words in steps["clock"]["sentence"]
    assert steps["clock"]["sentence"].split(",")[0] in verdict


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (DnsFault.NXDOMAIN, "DNS gives no address for auth.test"),
        (DnsFault.SERVFAIL, "DNS gives no address for auth.test"),
        (DnsFault.BLACK_HOLE, "DNS gives no address for auth.test"),
    ],
    ids=str,
)
async def test_dns_trouble(tmp_path: Path, fault: DnsFault, words: str) -> None:
    async with FaultDns({"auth.test": ["127.0.0.1"]}) as dns:
        dns.fault = fault
        code, verdict, steps = await report(
            tmp_path, "http://auth.test:8001", environment="staging", auth__dns_servers=f"{dns.host}:{dns.port}"
        )
    assert code == 1
    assert words in verdict
    assert statuses(steps)["tcp"] == "skipped"


async def test_a_name_is_resolved_by_our_own_servers(auth: FakeAuthService, tmp_path: Path) -> None:
    async with FaultDns({"auth.test": ["127.0.0.1"]}) as dns:
        code, _, steps = await report(
            tmp_path, f"http://auth.test:{auth.port}", environment="staging", auth__dns_servers=f"{dns.host}:{dns.port}"
        )
    assert code == 0
    assert steps["dns"]["facts"] == {"addresses": ["127.0.0.1"]}


async def test_tls(tmp_path: Path) -> None:
    tls = throwaway_tls()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(tls.ca_pem)
    async with FakeAuthService(service_secret=SECRET, ssl_context=tls.server) as auth:
        code, verdict, steps = await report(tmp_path, auth.url, auth__ca_file=str(ca_file))
        assert code == 0
        assert steps["tls"]["status"] == "warn"  # it is good for a day only
        assert "expires in 1.0 days: renew it" in verdict
        code, verdict, steps = await report(tmp_path, auth.url)
        assert code == 1
        assert verdict.startswith("There is no TLS connection with 127.0.0.1")
        assert statuses(steps)["credential"] == "skipped"
        async with FaultProxy(auth.host, auth.port, fault=Fault.TLS_STALL) as proxy:
            url = proxy.url.replace("http:", "https:")
            code, verdict, _ = await report(tmp_path, url, auth__ca_file=str(ca_file))
        assert code == 1
        assert "accepts connections and does not answer the TLS handshake" in verdict


async def test_a_missing_secret_is_told_as_such(auth: FakeAuthService, tmp_path: Path) -> None:
    outcome = await run_doorward("doctor", "--json", cwd=tmp_path, auth__url=auth.url)
    assert outcome.code == 2
    assert outcome.json["verdict"] == (
        "Our own service credential is missing (auth.service_secret is not set): "
        "set DOORWARD_AUTH__SERVICE_SECRET (doorward authd init makes a pair)."
    )
    assert {step["step"]: step["status"] for step in outcome.json["issuers"][0]["steps"]}["health"] == "ok"
    assert auth.calls[Endpoint.VALIDATE] == 0


async def test_local_verification_needs_no_secret(auth: FakeAuthService, tmp_path: Path) -> None:
    outcome = await run_doorward("doctor", "--json", cwd=tmp_path, auth__url=auth.url, verify="local")
    assert outcome.code == 0
    assert "The revocation feed needs our service credential" in outcome.json["verdict"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "auth.url is not set"),
        ({"auth__url": "http://auth.example"}, "https is required in production"),
        ({"auth__url": "http://127.0.0.1:1", "auth__ca_file": "nowhere.pem"}, "auth.ca_file: nowhere.pem"),
        ({"auth__url": "http://127.0.0.1:1", "auth__dns_servers": "not an address"}, "auth.dns_servers"),
        ({"auth__ulr": "x"}, "did you mean 'DOORWARD_AUTH__URL'?"),
    ],
    ids=["no url", "http", "ca file", "dns servers", "unknown"],
)
async def test_settings_that_cannot_work(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    outcome = await run_doorward("doctor", "--json", cwd=tmp_path, **({"auth__service_secret": SECRET} | variables))
    assert outcome.code == 2
    assert outcome.json["verdict"].startswith("The settings cannot work: ")
    assert words in outcome.json["verdict"]
    assert outcome.json["issuers"][0]["steps"][0]["status"] == "fail"


async def test_clients_behind_a_proxy_that_is_not_trusted(auth: FakeAuthService, tmp_path: Path) -> None:
    """The door notices, says so once, and doctor asks it."""
    env = environment({"auth__url": auth.url, "auth__service_secret": SECRET, "log_format": "json"})
    async with serving("serve", cwd=tmp_path, env=env) as door:
        port = door.url.rpartition(":")[2]
        _, _, steps = await report(tmp_path, auth.url, serve__port=port)
        assert steps["clients"]["status"] == "ok"
        async with aiohttp.ClientSession() as session:
            for number in range(ENOUGH + 3):
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await session.ws_connect(f"{door.url}/ws", headers={"X-Forwarded-For": f"203.0.113.{number}"})
        code, verdict, steps = await report(tmp_path, auth.url, serve__port=port)
        assert (code, steps["clients"]["status"]) == (0, "warn")
        assert steps["clients"]["facts"] == {"door": f"127.0.0.1:{port}", "untrusted_forwards": ENOUGH + 3}
        assert "since trusted_proxies does not name it" in verdict
        _, _, said = await door.stop()
    noticed = [line for line in map(json.loads, said.splitlines()) if "trusted_proxies" in line["event"]]
    assert [line["address"] for line in noticed] == ["127.0.0.1"]


async def test_who_else_listens_there_is_no_door(auth: FakeAuthService, tmp_path: Path) -> None:
    code, _, steps = await report(tmp_path, auth.url, serve__port=str(auth.port))
    assert (code, steps["clients"]["status"]) == (0, "skipped")
    assert "is not that of a door" in steps["clients"]["sentence"]


async def test_every_issuer_is_looked_at_and_the_one_in_trouble_named(auth: FakeAuthService, tmp_path: Path) -> None:
    async with FakeAuthService(service_secret="of-acme") as acme, FaultProxy(acme.host, acme.port) as proxy:
        proxy.fault = Fault.SILENCE
        variables = {
            "issuers": json.dumps(
                [{"name": "acme", "url": acme.url}, {"name": "beta", "url": proxy.url, "service_secret": "of-acme"}]
            ),
            "issuers__acme__service_secret": "another",
        }
        outcome = await doctor(tmp_path, auth.url, "--json", **variables)
        text = await doctor(tmp_path, auth.url, **variables)
    assert outcome.code == text.code == 1
    assert [report["issuer"] for report in outcome.json["issuers"]] == ["auth", "acme", "beta"]
    ours, refused, silent = (report["verdict"] for report in outcome.json["issuers"])
    assert ours.startswith("All is well")
    assert refused == REFUSED.replace(
        "check auth.service_id and auth.", "check issuers.acme.service_id and issuers.acme."
    )
    assert "does not answer" in silent
    assert outcome.json["verdict"] == f"acme: {refused}"
    assert text.out.splitlines()[0] == outcome.json["verdict"]
    assert {line.partition(":")[0] for line in text.out.splitlines()} >= {"auth", "acme", "beta"}


async def test_all_is_well_with_all_of_them(auth: FakeAuthService, tmp_path: Path) -> None:
    async with FakeAuthService(service_secret="of-acme") as acme:
        entry = {"name": "acme", "url": acme.url, "service_secret": "of-acme"}
        outcome = await doctor(tmp_path, auth.url, "--json", issuers=json.dumps([entry]))
    assert outcome.code == 0
    assert outcome.json["verdict"].startswith("All is well: the auth services of all 2 issuers answer")
