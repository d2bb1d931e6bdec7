"""`doorward check-config`: what is set, where it was read, what it means, and never a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli_support import doorward

SECRET = "a-secret-never-to-be-shown"
DOOR = {"auth__url": "http://127.0.0.1:8001", "auth__service_secret": SECRET}


async def test_settings_that_can_work(tmp_path: Path) -> None:
    outcome = await doorward("check-config", cwd=tmp_path, **DOOR)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == "The settings can work."
    assert "DOORWARD_AUTH__SERVICE_SECRET" in outcome.out
    assert "***" in outcome.out
    assert SECRET not in outcome.out + outcome.err


async def test_only_what_is_set_is_listed_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "doorward.toml"
    file.write_text('deadline_seconds = 3\n[auth]\nurl = "http://127.0.0.1:1"\nservice_id = "chat"\n')
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR)
    assert outcome.json["file"] == "doorward.toml"
    assert outcome.json["settings"] == [
        {"key": "deadline_seconds", "value": "3.0", "source": "doorward.toml"},
        {"key": "auth.url", "value": "http://127.0.0.1:8001", "source": "DOORWARD_AUTH__URL"},
        {"key": "auth.service_id", "value": "chat", "source": "doorward.toml"},
        {"key": "auth.service_secret", "value": "***", "source": "DOORWARD_AUTH__SERVICE_SECRET"},
    ]


async def test_all_lists_the_defaults_too(tmp_path: Path) -> None:
    outcome = await doorward("check-config", "--all", "--json", cwd=tmp_path, **DOOR)
    listed = {setting["key"]: setting for setting in outcome.json["settings"]}
    assert listed["patience_seconds"] == {"key": "patience_seconds", "value": "0.5", "source": None}
    assert listed["authd.port"]["value"] == "8001"


@pytest.mark.parametrize(
    ("environment", "connect_seconds", "failures", "mode", "words"),
    [
        ("production", 2, 5, None, "not set: local_jwt once the auth service has a revocation feed, else cached_only"),
        ("staging", 1, 2, "local_jwt", "local_jwt: in an outage a fresh JWT"),
        ("development", 1, 5, "cached_only", "cached_only: in an outage only those"),
        ("production", 2, 5, "deny", "deny: in an outage nobody new gets in"),
    ],
)
async def test_what_environment_and_mode_mean(
    tmp_path: Path, environment: str, connect_seconds: float, failures: int, mode: str | None, words: str
) -> None:
    given = {} if mode is None else {"degrade__mode": mode}
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, **given, environment=environment)
    effective, meaning = outcome.json["effective"], outcome.json["meaning"]
    assert effective["environment"] == environment
    assert effective["caps"]["connect_seconds"] == connect_seconds
    only = effective["issuers"]["auth"]
    assert only["breaker"]["failures"] == failures
    assert only["degrade_mode"] == mode
    assert f"connect {connect_seconds} s" in meaning["phase caps"]
    assert f"opens after {failures} failures in a row" in meaning["breaker"]
    assert meaning["degraded mode"].startswith(words)


async def test_what_local_verification_means_with_a_secret_and_without(tmp_path: Path) -> None:
    for given, words in (
        ({}, "; without auth.service_secret no other token counts"),
        ({"auth__service_secret": "s"}, ""),
    ):
        outcome = await doorward(
            "check-config", "--json", cwd=tmp_path, auth__url="http://127.0.0.1:1", verify="local", **given
        )
        assert outcome.json["meaning"]["verify"].endswith(f"revocation feed decide{words}")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"auth__service_secret": SECRET}, "auth.url is not set"),
        ({"auth__url": "http://127.0.0.1:1"}, "auth.service_secret is not set"),
    ],
    ids=["url", "secret"],
)
async def test_what_stops_the_door_is_told(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    outcome = await doorward("check-config", cwd=tmp_path, **variables)
    assert outcome.code == 2
    assert outcome.out.startswith(f"Cannot work: {words}")
    assert (await doorward("check-config", "--for", "authd", cwd=tmp_path, **variables)).code == 0


async def test_an_unknown_transport_stops_the_door(tmp_path: Path) -> None:
    (tmp_path / "doorward.toml").write_text('[[routes]]\npath = "/ws"\ntransports = ["pigeon"]\n')
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR)
    assert outcome.code == 2
    assert "unknown transport 'pigeon'" in outcome.json["problems"][0]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"auth__ulr": "x"}, "did you mean 'DOORWARD_AUTH__URL'?"),
        ({"environment": "prod"}, "environment: Input should be 'production', 'staging' or 'development'"),
    ],
)
async def test_settings_that_cannot_be_read(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    outcome = await doorward("check-config", cwd=tmp_path, **DOOR, **variables)
    assert outcome.code == 2
    assert words in outcome.said


async def test_warnings(tmp_path: Path) -> None:
    risky = {
        "public": "/health,/open/*",
        "environment": "staging",
        "verify": "local",
        "auth__revocations": "off",
        "degrade__mode": "local_jwt",
        "breaker__canary": "false",
    }
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, **risky)
    assert outcome.code == 0
    expected = [
        "public: /health, /open/* is not guarded at all",
        "auth.url is http",
        "verify = local with auth.revocations = off: a revoked token gets in until it expires",
        "degrade.mode = local_jwt with auth.revocations = off",
        "breaker.canary is off",
        "auth.typ is not set",
    ]
    for warning, words in zip(outcome.json["warnings"], expected, strict=True):
        assert warning.startswith(words)


async def test_without_a_feed_the_mode_that_comes_of_it_is_named(tmp_path: Path) -> None:
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, auth__revocations="off")
    assert outcome.json["meaning"]["degraded mode"].startswith(
        "not set, and there is no revocation feed: cached_only: in an"
    )


async def test_a_claim_that_only_access_tokens_have_is_enough(tmp_path: Path) -> None:
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, auth__claims__required="token_use=access")
    assert outcome.json["warnings"] == []


async def test_nothing_to_warn_of(tmp_path: Path) -> None:
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, auth__typ="at+jwt")
    assert outcome.json["warnings"] == []


async def test_a_data_directory_that_others_can_write(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o777)
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, data_dir=str(data_dir), auth__typ="at+jwt")
    assert outcome.json["warnings"] == [
        f"data_dir: {data_dir} can be written by others; run: chmod 700 {data_dir}; until then what is kept there is not believed"
    ]


@pytest.mark.parametrize("data_dir", ["data", "data/below"])
@pytest.mark.parametrize("program", ["serve", "authd"])
async def test_a_data_directory_that_cannot_be_one(tmp_path: Path, data_dir: str, program: str) -> None:
    (tmp_path / "data").write_text("")
    outcome = await doorward("check-config", "--for", program, "--json", cwd=tmp_path, **DOOR, data_dir=data_dir)
    (told,) = outcome.json["problems"]
    assert told.startswith("data_dir: ")
    assert told.endswith("data is not a directory")
    assert outcome.code == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"auth__ca_file": "nope.pem"}, "auth.ca_file: nope.pem: [Errno 2] No such file"),
        ({"auth__ca_file": "settings"}, "auth.ca_file: settings: "),
        ({"auth__service_secret": ""}, "auth.service_secret is not set"),
    ],
)
async def test_what_would_stop_the_door_is_told(tmp_path: Path, wrong: dict[str, str], words: str) -> None:
    (tmp_path / "settings").write_text("no certificate")
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR | wrong)
    (told,) = outcome.json["problems"]
    assert told.startswith(words)
    assert outcome.code == 2


async def test_a_password_in_a_url_is_masked(tmp_path: Path) -> None:
    url = f"postgresql://authd:{SECRET}@db.internal/authd"
    outcome = await doorward("check-config", "--for", "authd", cwd=tmp_path, authd__database_url=url)
    assert outcome.code == 0
    assert "postgresql://authd:***@db.internal/authd" in outcome.out
    assert SECRET not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        ({}, "the warden answers about this very door, without a model"),
        ({"chat__agent": "pydantic-ai", "chat__agent_model": "test"}, "the model test answers, through pydantic-ai"),
        (
            {"chat__agent": "http", "chat__agent_url": "http://127.0.0.1:9/run", "chat__agent_token": SECRET},
            "an AG-UI agent at 127.0.0.1:9 answers; it is asked with a token",
        ),
    ],
)
async def test_who_answers_in_the_chat(tmp_path: Path, chat: dict[str, str], words: str) -> None:
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, **chat)
    assert outcome.code == 0
    assert outcome.json["meaning"]["chat"] == words
    assert SECRET not in outcome.out


async def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, chat__agent="nowhere:agent")
    assert outcome.code == 2
    assert "No module named 'nowhere'" in outcome.json["problems"][0]


async def test_an_agent_of_the_folder_one_is_in(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Own:\n    async def run(self, request):\n        yield None\nagent = Own()\n"
    )
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, chat__agent="mine:agent")
    assert outcome.json["problems"] == []
    assert outcome.json["meaning"]["chat"] == "mine:agent answers"


@pytest.mark.parametrize(
    ("trusted", "words"),
    [
        ({}, "behind a proxy that is one for all of them, so name it in trusted_proxies (not set)"),
        ({"trusted_proxies": "10.0.0.0/24"}, "told apart by what 10.0.0.0/24 say in X-Forwarded-For"),
    ],
)
async def test_how_clients_are_told_apart(tmp_path: Path, trusted: dict[str, str], words: str) -> None:
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, **trusted)
    assert words in outcome.json["meaning"]["clients"]


async def test_every_issuer_is_checked_and_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "doorward.toml").write_text(
        '[[issuers]]\nname = "acme"\nurl = "https://acme.example"\nissuer = "https://acme.example/"\n'
        'verify = "local"\nrevocations = "off"\n'
        '[[issuers]]\nname = "beta"\nurl = "https://beta.example"\nopaque = true\n[issuers.degrade]\nmode = "deny"\n'
    )
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR)
    assert outcome.code == 2
    assert outcome.json["problems"] == [
        "issuers.beta.service_secret is not set: set DOORWARD_ISSUERS__BETA__SERVICE_SECRET (doorward authd init makes a pair)"
    ]
    meaning, warnings = outcome.json["meaning"], outcome.json["warnings"]
    assert meaning["issuer auth"] == "tokens with iss = http://127.0.0.1:8001; its users are <id>"
    assert meaning["issuer acme"] == "tokens with iss = https://acme.example/; its users are acme:<id>"
    assert meaning["issuer beta"].endswith("its users are beta:<id>; opaque tokens are its own too")
    assert meaning["verify of acme"].startswith("local: ")
    assert meaning["degraded mode of beta"].startswith("deny: ")
    assert any(each.startswith("issuers.acme.verify = local with issuers.acme.revocations = off") for each in warnings)
    assert not any("degrade.mode" in each for each in warnings)
    beta = outcome.json["effective"]["issuers"]["beta"]
    assert (beta["tenant"], beta["opaque"], beta["verify"], beta["degrade_mode"]) == ("beta", True, "remote", "deny")

    secret = {"issuers__beta__service_secret": SECRET}
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **DOOR, **secret)
    assert outcome.code == 0
    listed = {setting["key"]: setting for setting in outcome.json["settings"]}
    assert listed["issuers.beta.service_secret"] == {
        "key": "issuers.beta.service_secret",
        "value": "***",
        "source": "DOORWARD_ISSUERS__BETA__SERVICE_SECRET",
    }
    assert SECRET not in outcome.out + outcome.err


async def test_without_auth_nobody_is_an_admin(tmp_path: Path) -> None:
    entry = '[{"name": "acme", "url": "https://acme.example", "service_secret": "x"}]'
    outcome = await doorward("check-config", "--json", cwd=tmp_path, issuers=entry)
    assert outcome.code == 0
    assert any("[auth] is no issuer of this door" in each for each in outcome.json["warnings"])
