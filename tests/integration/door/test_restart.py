"""A door that starts in the middle of an outage: what it knew survives, and what it knew of a *no* too."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.door_server import Answer, RunningDoor, running_door

from doorward.errors import ConfigError
from doorward.testing import FakeAuthService, Fault, FaultProxy, eventually

LOCAL_JWT: dict[str, Any] = {"degrade": {"mode": "local_jwt"}, "deadline_seconds": 0.6, "patience_seconds": 0.1}


@dataclass
class Site:
    """One auth service and one data directory; doors come and go."""

    auth: FakeAuthService
    proxy: FaultProxy
    tmp_path: Path
    options: dict[str, Any] = field(default_factory=lambda: dict(LOCAL_JWT))

    @property
    def data_dir(self) -> Path:
        return self.tmp_path / "data"

    @property
    def store(self) -> Path:
        return self.data_dir / "node.sqlite3"

    @asynccontextmanager
    async def door(self) -> AsyncIterator[RunningDoor]:
        async with running_door(self.tmp_path, auth=self.auth, proxy=self.proxy, **self.options) as running:
            yield running

    async def first_life(self, *tokens: str) -> list[Answer]:
        """A door in good times; it is asked about these tokens and stopped. Then the outage begins."""
        async with self.door() as running:
            await running.settled()
            answers = [await running.ask(token) for token in tokens]
        self.proxy.fault = Fault.REFUSE
        return answers

    async def asked_in_outage(self, *tokens: str) -> list[Answer]:
        """A new door that never hears from the auth service."""
        async with self.door() as running:
            return [await running.ask(token) for token in tokens]

    def write(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.store)
        with connection:
            connection.execute(statement, values)
        connection.close()


@pytest.fixture(name="site")
async def a_site(tmp_path: Path) -> AsyncIterator[Site]:
    async with FakeAuthService() as auth, FaultProxy(auth.host, auth.port, seed=1) as proxy:
        yield Site(auth, proxy, tmp_path)


async def test_a_valid_token_gets_in_on_the_stored_key_set(site: Site) -> None:
    await site.first_life()
    async with site.door() as running:
        answer = await running.ask(site.auth.issue("ada"))
        assert answer.status == 101
        record = running.records[0]
        assert (record.assurance, record.degraded, record.source) == ("local", True, "fallback")
        assert (await running.ask(site.auth.mint.forged("ada"))).code == "TOKEN_INVALID"
        assert (await running.ask(site.auth.mint.expired("ada"))).code == "TOKEN_EXPIRED"


@pytest.mark.parametrize("item", [{"jti": "j1"}, {"session_id": "s1"}, {"user_id": "ada"}])
async def test_a_revoked_token_stays_out(item: dict[str, Any], site: Site) -> None:
    token = site.auth.issue("ada", session_id="s1", jti="j1")
    async with site.door() as running:
        await running.settled()
        assert (await running.ask(token)).status == 101
        site.auth.revoke(**item)
        await eventually(lambda: len(running.issuer.memory.revocations) == 1, what="the feed has come in")
    site.proxy.fault = Fault.REFUSE
    revoked, other = await site.asked_in_outage(token, site.auth.issue("eve"))
    assert (revoked.code, other.status) == ("TOKEN_REVOKED", 101)


async def test_a_token_that_was_once_rejected_never_comes_in(site: Site) -> None:
    """Rejected; then an outage; then a restart; then another."""
    token = site.auth.issue("ada")
    site.auth.reject(token)
    async with site.door() as running:
        await running.settled()
        assert (await running.ask(token)).code == "TOKEN_REJECTED"
        site.proxy.fault = Fault.REFUSE
        assert (await running.ask(token)).code == "TOKEN_REJECTED"
    for _ in range(2):
        refused, good = await site.asked_in_outage(token, site.auth.issue("ada"))
        assert (refused.code, good.status) == ("TOKEN_REJECTED", 101)


async def test_only_a_live_yes_lifts_the_bar(site: Site) -> None:
    token = site.auth.issue("ada")
    site.auth.reject(token)
    await site.first_life(token)
    site.proxy.fault = Fault.NONE
    site.auth.accept(token)
    async with site.door() as running:
        await running.settled()
        assert (await running.ask(token)).status == 101
        site.proxy.fault = Fault.REFUSE
    assert [answer.status for answer in await site.asked_in_outage(token)] == [101]


async def test_an_opaque_token_comes_in_on_a_stale_verdict_but_not_after_a_restart(site: Site) -> None:
    site.options["degrade"] = {"mode": "cached_only"}
    site.options["cache"] = {"positive_seconds": 0}
    token = site.auth.issue_opaque("ada")
    async with site.door() as running:
        await running.settled()
        assert (await running.ask(token)).status == 101
        site.proxy.fault = Fault.REFUSE
        assert (await running.ask(token)).status == 101
        assert (running.records[-1].assurance, running.records[-1].degraded) == ("cached", True)
        assert (await running.ask(site.auth.issue_opaque("eve"))).code == "SERVICE_UNAVAILABLE"
        assert (await running.ask(site.auth.issue("eve"))).code == "SERVICE_UNAVAILABLE"
    after = await site.asked_in_outage(token)
    assert [(answer.status, answer.code) for answer in after] == [(503, "SERVICE_UNAVAILABLE")]


@pytest.mark.parametrize(
    "contact",
    [
        pytest.param(lambda now: now - 1900, id="the outage is longer than its bound"),
        pytest.param(lambda _: None, id="no record of a contact"),
        pytest.param(lambda now: now + 3600, id="a contact in the future"),
    ],
)
async def test_without_a_recent_contact_nobody_is_let_in_degraded(contact: Any, site: Site) -> None:
    await site.first_life()
    site.write("UPDATE origin SET last_contact = ?", contact(time.time()))
    async with site.door() as running:
        answer = await running.ask(site.auth.issue("ada"))
        assert (answer.status, answer.code, answer.cause) == (503, "SERVICE_UNAVAILABLE", "stale")
        assert answer.retry_after_ms is not None
        assert answer.retry_after_ms >= 10_000
        site.proxy.fault = Fault.NONE
        await running.healed(within_seconds=8)
        assert (await running.ask(site.auth.issue("ada"))).status == 101


async def test_a_feed_that_was_old_when_the_outage_began(site: Site) -> None:
    await site.first_life()
    site.write("UPDATE origin SET last_feed = last_contact - 400")
    (answer,) = await site.asked_in_outage(site.auth.issue("ada"))
    assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")


async def test_a_feed_that_is_switched_off_is_not_demanded_any_more(site: Site) -> None:
    """And who was revoked stays out."""
    revoked = site.auth.issue("eve")
    async with site.door() as running:
        await running.settled()
        site.auth.revoke(user_id="eve")
        await eventually(lambda: len(running.issuer.memory.revocations) == 1, what="the feed has come in")
    site.proxy.fault = Fault.REFUSE
    site.write("UPDATE origin SET last_feed = last_contact - 400")
    site.options["auth_settings"] = {"revocations": "off"}
    refused, other = await site.asked_in_outage(revoked, site.auth.issue("ada"))
    assert (refused.code, other.status) == ("TOKEN_REVOKED", 101)


async def test_a_token_of_another_issuer_knows_nothing_of_this_one(site: Site) -> None:
    """State is bound to the issuer and its key set."""
    await site.first_life()
    site.options["auth_settings"] = {"issuer": "https://another.example"}
    (answer,) = await site.asked_in_outage(site.auth.issue("ada", iss="https://another.example"))
    assert (answer.code, answer.cause) == ("SERVICE_UNAVAILABLE", "keyset")


async def test_a_key_set_that_others_may_write_is_ignored(site: Site) -> None:
    await site.first_life()
    (keyset,) = site.data_dir.glob("keyset-*.json")
    keyset.chmod(0o666)
    with capture_logs() as lines:
        (answer,) = await site.asked_in_outage(site.auth.issue("ada"))
    assert (answer.code, answer.cause) == ("SERVICE_UNAVAILABLE", "keyset")
    assert str(keyset) in str(lines)


async def test_a_store_that_others_may_write_stops_the_start(site: Site) -> None:
    """A door that cannot trust its record of who was refused must not open."""
    await site.first_life()
    site.store.chmod(0o666)
    with pytest.raises(ConfigError, match=r"node\.sqlite3 has mode 0666"):
        await site.asked_in_outage()


async def test_files_are_private(site: Site) -> None:
    await site.first_life()
    assert os.stat(site.data_dir).st_mode & 0o777 == 0o700
    for path in site.data_dir.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
