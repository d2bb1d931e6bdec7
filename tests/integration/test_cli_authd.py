"""`doorward authd`: set up, serve, rotate, with real processes."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.cli_support import PATIENCE_SECONDS, Outcome, authd_serving, doorward

EMAIL = "ada@example.com"
LIMIT = aiohttp.ClientTimeout(total=10)


async def get(url: str, **options: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession(timeout=LIMIT) as http, http.get(url, **options) as answer:
        return answer.status, await answer.json(content_type=None)


async def post(url: str, body: object, **options: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession(timeout=LIMIT) as http, http.post(url, json=body, **options) as answer:
        return answer.status, await answer.json(content_type=None)


async def kids(url: str) -> set[str]:
    _, document = await get(f"{url}/.well-known/jwks.json")
    return {key["kid"] for key in document["keys"]}


def part(token: str, number: int) -> dict[str, Any]:
    """Header (0) or claims (1) of a JWT."""
    text = token.split(".")[number]
    content = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert isinstance(content, dict)
    return content


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.05)


async def sourced(outcome: Outcome, cwd: Path) -> dict[str, str]:
    """What a shell knows after it sourced the output."""
    script = cwd / "credential.env"
    script.write_text(outcome.out)
    process = await asyncio.create_subprocess_exec(
        "env", "-i", "sh", "-eu", "-c", ". ./credential.env; env", cwd=cwd, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    return dict(line.split("=", 1) for line in out.decode().splitlines() if line.startswith("DOORWARD_"))


async def test_init_makes_an_admin_and_a_credential_that_work(tmp_path: Path) -> None:
    made = await doorward("authd", "init", "--email", EMAIL, cwd=tmp_path)
    assert made.code == 0
    assert made.err == ""
    lines = made.out.splitlines()
    assert lines[0] == f"# The admin {EMAIL} was made. The password, shown this once:"
    password = lines[1].removeprefix("#").strip()
    exported = await sourced(made, tmp_path)
    assert exported["DOORWARD_AUTH__URL"] == "http://127.0.0.1:8001"
    assert exported["DOORWARD_AUTH__TYP"] == "at+jwt"
    credential = aiohttp.encode_basic_auth(
        exported["DOORWARD_AUTH__SERVICE_ID"], exported["DOORWARD_AUTH__SERVICE_SECRET"]
    )
    async with authd_serving(cwd=tmp_path) as authd:
        status, signed_in = await post(f"{authd.url}/auth/login", {"email": EMAIL, "password": password})
        assert status == 200
        assert signed_in["user"]["permissions"] == ["admin", "chat"]
        status, answer = await post(
            f"{authd.url}/auth/validate", {"token": signed_in["access_token"]}, headers={"Authorization": credential}
        )
        assert (status, answer["valid"]) == (200, True)


async def test_init_again_changes_nothing_and_shows_nothing(tmp_path: Path) -> None:
    first = await doorward("authd", "init", "--email", EMAIL, "--json", cwd=tmp_path)
    assert first.json["admin"]["created"] is True
    secret = first.json["service"]["service_secret"]
    again = await doorward("authd", "init", "--email", EMAIL, cwd=tmp_path)
    assert again.code == 0
    assert f"{EMAIL} is there already; the password is unchanged" in again.out
    assert "The service doorward has a credential already" in again.out
    assert secret not in again.out
    assert await sourced(again, tmp_path) == {}
    other = await doorward("authd", "init", "--email", EMAIL, "--json", cwd=tmp_path, auth__service_id="second")
    assert other.json["service"]["service_id"] == "second"
    assert other.json["service"]["service_secret"] not in (None, secret)


async def test_init_with_a_password_and_a_secret_of_ones_own(tmp_path: Path) -> None:
    arguments = ("authd", "init", "--email", EMAIL, "--password-stdin")
    outcome = await doorward(*arguments, cwd=tmp_path, stdin="correct horse battery\n", auth__service_secret="ours")
    assert outcome.code == 0
    assert "correct horse" not in outcome.out
    assert "with the given password" in outcome.out
    assert "none was made" in outcome.out
    again = await doorward(*arguments, cwd=tmp_path, stdin="another horse battery\n", auth__service_secret="ours")
    assert "the password is now the given one" in again.out
    async with authd_serving(cwd=tmp_path, auth__service_secret="ours") as authd:
        login = f"{authd.url}/auth/login"
        assert (await post(login, {"email": EMAIL, "password": "correct horse battery"}))[0] == 401
        assert (await post(login, {"email": EMAIL, "password": "another horse battery"}))[0] == 200


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("--email", "nobody"), "", "e-mail"),
        (("--email", EMAIL, "--password-stdin"), "short\n", "password"),
        (("--email", EMAIL, "--password-stdin"), "", "the first line of stdin is empty"),
    ],
    ids=["email", "short", "empty"],
)
async def test_init_refuses(tmp_path: Path, arguments: tuple[str, ...], stdin: str, words: str) -> None:
    outcome = await doorward("authd", "init", *arguments, cwd=tmp_path, stdin=stdin)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.said.startswith("doorward: ")
    assert words in outcome.said


async def test_what_it_keeps_is_private(tmp_path: Path) -> None:
    await doorward("authd", "init", "--email", EMAIL, cwd=tmp_path)
    kept = list((tmp_path / ".doorward").rglob("*"))
    assert kept
    assert [path for path in kept if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


async def test_the_issuer_holds_the_real_port(tmp_path: Path) -> None:
    made = await doorward("authd", "init", "--email", EMAIL, "--json", cwd=tmp_path)
    password = made.json["admin"]["password"]
    async with authd_serving(cwd=tmp_path) as authd:
        assert authd.ready_line == f"doorward authd ready {authd.url} pid={authd.process.pid}"
        assert not authd.url.endswith(":0")
        healthy = await doorward(
            "doctor", cwd=tmp_path, auth__url=authd.url, auth__service_secret=made.json["service"]["service_secret"]
        )
        assert healthy.code == 0, healthy.out
        _, signed_in = await post(f"{authd.url}/auth/login", {"email": EMAIL, "password": password})
        assert part(signed_in["access_token"], 1)["iss"] == authd.url
    async with authd_serving(cwd=tmp_path, authd__issuer="https://auth.example") as authd:
        _, signed_in = await post(f"{authd.url}/auth/login", {"email": EMAIL, "password": password})
        assert part(signed_in["access_token"], 1)["iss"] == "https://auth.example"


async def test_sigterm_answers_a_long_poll_and_ends_it_within_seconds(tmp_path: Path) -> None:
    secret = "of-the-door"
    async with authd_serving(cwd=tmp_path, auth__service_secret=secret) as authd:
        credential = aiohttp.encode_basic_auth("doorward", secret)
        _, page = await get(f"{authd.url}/auth/revocations", headers={"Authorization": credential})
        target = f"/auth/revocations?after={page['cursor']}&epoch={page['epoch']}&wait=20"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(authd.url.rpartition(":")[2]))
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {credential}\r\n\r\n".encode())
        await writer.drain()
        assert (await get(f"{authd.url}/auth/health"))[0] == 200  # so the poll, which came first, is waiting
        code, seconds, _ = await authd.stop()
        head = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        writer.close()
        await writer.wait_closed()
    assert code == 0
    assert seconds < 5.0
    assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))


async def test_a_data_directory_that_cannot_be_made_is_named_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in (("authd", "init", "--email", "ada@example.com"), ("authd", "serve", "--port", "0"), ("serve",)):
        outcome = await doorward(
            *command,
            cwd=tmp_path,
            data_dir="file/below",
            auth__url="http://127.0.0.1:9",
            auth__service_secret="made-up",
            environment="development",
        )
        assert outcome.code == 2
        assert "data_dir: file/below" in outcome.said
        assert "database_url" not in outcome.said
        assert "Traceback" not in outcome.said


async def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        outcome = await doorward("authd", "serve", "--port", str(port), cwd=tmp_path)
    assert outcome.code == 2
    assert f"port {port} on 127.0.0.1 is already in use" in outcome.said


async def test_it_does_not_start_without_a_credential_for_doors(tmp_path: Path) -> None:
    outcome = await doorward("authd", "serve", "--port", "0", cwd=tmp_path)
    assert outcome.code == 2
    assert "doorward authd init" in outcome.said
    assert outcome.out == ""


async def test_rotation_overlaps(tmp_path: Path) -> None:
    async with authd_serving(cwd=tmp_path, auth__service_secret="of-the-door") as authd:
        before = await kids(authd.url)
        made = await doorward("authd", "rotate-keys", cwd=tmp_path)
        assert made.code == 0
        assert "is published now and signs in 1" in made.out

        async def published() -> bool:
            return len(await kids(authd.url)) == len(before) + 1

        await eventually(published)
        assert before < await kids(authd.url)


async def test_rotation_at_once(tmp_path: Path) -> None:
    made = await doorward("authd", "init", "--email", EMAIL, "--json", cwd=tmp_path)
    login = {"email": EMAIL, "password": made.json["admin"]["password"]}
    async with authd_serving(cwd=tmp_path) as authd:
        rotated = await doorward("authd", "rotate-keys", "--now", "--json", cwd=tmp_path)

        async def signs_with_it() -> bool:
            _, signed_in = await post(f"{authd.url}/auth/login", login)
            return bool(part(signed_in["access_token"], 0)["kid"] == rotated.json["kid"])

        await eventually(signs_with_it)
    sentence = await doorward("authd", "rotate-keys", "--now", cwd=tmp_path)
    assert "signs from now on" in sentence.out
