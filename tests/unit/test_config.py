from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from doorward.asgi.policies import breaker_policy, phase_caps
from doorward.config import (
    ENV_PREFIX,
    Environment,
    IssuerSettings,
    RouteSettings,
    Settings,
    Verify,
    child_environment,
    file_in_use,
    variable_for,
    variable_of,
)
from doorward.core.degrade import Mode
from doorward.errors import ConfigError


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting from outside, and a working directory without a file."""
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def problem(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Settings(**values)
    return str(caught.value)


# Precedence


def test_arguments_go_before_the_environment_and_that_before_the_file(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text(
        'deadline_seconds = 1.0\npatience_seconds = 0.1\nverify = "local"\n'
        '[auth]\nurl = "https://file"\nservice_id = "file"\nissuer = "file"\n'
    )
    monkeypatch.setenv("DOORWARD_PATIENCE_SECONDS", "0.2")
    monkeypatch.setenv("DOORWARD_AUTH__SERVICE_ID", "environment")
    monkeypatch.setenv("DOORWARD_AUTH__URL", "https://environment")
    settings = Settings.load(toml, auth={"url": "https://arguments"})

    assert (settings.deadline_seconds, settings.patience_seconds, settings.verify) == (1.0, 0.2, Verify.LOCAL)
    assert (settings.auth.url, settings.auth.service_id, settings.auth.issuer) == (
        "https://arguments",
        "environment",
        "file",
    )
    assert settings.auth.audience == ("doorward",)


def test_the_environment_goes_before_the_file_in_small_letters_too(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('[degrade]\nmode = "deny"\n')
    monkeypatch.setenv("doorward_degrade__mode", "cached_only")

    assert Settings.load(toml).degrade.mode is Mode.CACHED_ONLY


def test_the_file_is_the_given_one_else_the_named_one_else_the_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(["given.toml", "named.toml", "doorward.toml"], 1):
        (tmp_path / name).write_text(f"deadline_seconds = {number}.0\n")

    assert Settings.load().deadline_seconds == 3.0
    assert file_in_use() == Path("doorward.toml")
    monkeypatch.setenv("DOORWARD_CONFIG", str(tmp_path / "named.toml"))
    assert Settings.load().deadline_seconds == 2.0
    assert Settings.load(tmp_path / "given.toml").deadline_seconds == 1.0


def test_without_a_file_the_defaults_hold() -> None:
    assert file_in_use() is None
    assert Settings.load() == Settings()


def test_routes_are_read_from_the_file(toml: Path) -> None:
    toml.write_text('[[routes]]\npath = "/ws/*"\ntransports = ["header"]\nrequired_scopes = ["chat"]\n')
    (route,) = Settings.load(toml).routes

    assert (route.path, route.transports, route.required_scopes) == ("/ws/*", ("header",), ("chat",))


def test_settings_never_change() -> None:
    settings = Settings()

    with pytest.raises(ValidationError):
        settings.verify = Verify.LOCAL  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.auth.url = "https://evil.example"  # type: ignore[misc]


# Lists


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example, http://b.example:8000", ("https://a.example", "http://b.example:8000")),
        ('["https://a.example", "http://b.example:8000"]', ("https://a.example", "http://b.example:8000")),
        ("[https://a.example,'http://b.example:8000']", ("https://a.example", "http://b.example:8000")),
        (" https://a.example ,, ", ("https://a.example",)),
        ("http://[::1]", ("http://[::1]",)),
        ("", ()),
    ],
)
def test_a_list_may_be_written_the_way_people_write_one(
    text: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOORWARD_ALLOWED_ORIGINS", text)

    assert Settings().allowed_origins == expected


@pytest.mark.parametrize("text", ["[::1]:53, 10.0.0.53", '["[::1]:53", "10.0.0.53"]'])
def test_an_ipv6_address_in_a_list_keeps_its_brackets(text: str) -> None:
    assert Settings(auth={"dns_servers": text}).auth.dns_servers == ("[::1]:53", "10.0.0.53")


# Unknown keys


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("DOORWARD_AUTH__UR", "DOORWARD_AUTH__URL"),
        ("DOORWARD_DEADLINE", "DOORWARD_DEADLINE_SECONDS"),
        ("DOORWARD_AUTH_URL", "DOORWARD_AUTH__URL"),
        ("doorward_enviroment", "DOORWARD_ENVIRONMENT"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_right_name(
    name: str, suggestion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "s3cret")
    text = problem()

    assert name in text
    assert f"did you mean '{suggestion}'?" in text
    assert "s3cret" not in text


def test_a_variable_like_nothing_points_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_XYZZY_QUUX", "1")

    assert "docs/reference/settings.md" in problem()


def test_a_whole_section_in_one_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_AUTH", '{"url": "https://evil.example"}')

    assert "unknown variable DOORWARD_AUTH" in problem()


def test_variables_of_others_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOT_DOORWARD_X", "1")

    assert Settings() == Settings()


@pytest.mark.parametrize(
    ("content", "key", "suggestion"),
    [
        ('enviroment = "staging"', "enviroment", "environment"),
        ('[auth]\nulr = "x"', "auth.ulr", "auth.url"),
        ("[limits]\nbulkheads = 3", "limits.bulkheads", "limits.bulkhead"),
    ],
)
def test_an_unknown_key_of_the_file_is_refused_with_file_and_name(
    content: str, key: str, suggestion: str, toml: Path
) -> None:
    toml.write_text(content)
    with pytest.raises(ConfigError) as caught:
        Settings.load(toml)

    assert str(caught.value) == f"{toml}: unknown key {key!r}; did you mean {suggestion!r}?"


def test_an_unknown_argument_is_refused_with_the_right_name() -> None:
    assert "deadline: unknown key; did you mean 'deadline_seconds'?" in problem(deadline=2)
    assert "auth.uri: unknown key; did you mean 'auth.url'?" in problem(auth={"uri": "https://a.example"})
    route = {"path": "/ws", "transport": "header"}
    assert "routes.0.transport: unknown key; did you mean 'routes.0.transports'?" in problem(routes=[route])


def test_an_agent_that_is_none_is_told_with_those_there_are() -> None:
    assert "chat.agent: 'nosuch' is none; write warden, pydantic-ai, http" in problem(chat={"agent": "nosuch"})


@pytest.mark.parametrize("content", ["deadline_seconds = ", "\xff\xfe", "[auth", "a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_named(content: str, toml: Path) -> None:
    toml.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=str(toml)):
        Settings.load(toml)


def test_a_file_that_is_not_there_is_named(toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        Settings.load(toml)
    with pytest.raises(ConfigError, match=str(tmp_path)):
        Settings.load(tmp_path)
    monkeypatch.setenv("DOORWARD_CONFIG", str(toml))
    with pytest.raises(ConfigError, match="no such file"):
        Settings.load()


@pytest.mark.parametrize("content", ['auth = "https://a.example"', '[[auth]]\nurl = "https://a.example"'])
def test_a_section_that_is_no_table_is_named(content: str, toml: Path) -> None:
    toml.write_text(content)
    with pytest.raises(ConfigError, match=r"^auth: "):
        Settings.load(toml)


# Values


def test_the_text_says_where_a_value_was_read(monkeypatch: pytest.MonkeyPatch, toml: Path) -> None:
    assert problem(deadline_seconds=99).endswith("(arguments)")
    toml.write_text("deadline_seconds = 99")
    with pytest.raises(ConfigError) as caught:
        Settings.load(toml)
    assert str(caught.value).endswith(f"(arguments or {toml})")
    monkeypatch.setenv("DOORWARD_DEADLINE_SECONDS", "s3cret")
    text = problem()

    assert text.startswith("deadline_seconds: ")
    assert text.endswith("(environment variable DOORWARD_DEADLINE_SECONDS)")
    assert "s3cret" not in text


def test_every_unknown_name_is_told_at_once(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('deadline = 2\n[auth]\nurll = "https://a.example"')
    with pytest.raises(ConfigError) as caught:
        Settings.load(toml)
    for key in ("deadline", "auth.urll"):
        assert f"unknown key {key!r}" in str(caught.value)
    for name in ("DOORWARD_FOO", "DOORWARD_AUTH__URLL"):
        monkeypatch.setenv(name, "x")
    text = problem()
    assert "unknown variable DOORWARD_FOO" in text
    assert "unknown variable DOORWARD_AUTH__URLL; did you mean 'DOORWARD_AUTH__URL'?" in text


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        ({"url": "http://127.0.0.1:99999"}, "auth.url is not an http(s) URL"),
        ({"url": "http://127.0.0.1:port"}, "auth.url is not an http(s) URL"),
        ({"url": "https://a.example?x=1"}, "auth.url: paths are put after it"),
        ({"url": "https://a.example/#x"}, "auth.url: paths are put after it"),
        ({"jwks_url": "https://a.example:0/keys"}, "auth.jwks_url is not an http(s) URL"),
        ({"validate_path": "auth/validate"}, "auth.validate_path does not begin with /"),
        ({"health_path": "healthz"}, "auth.health_path does not begin with /"),
        ({"revocations_path": ""}, "auth.revocations_path does not begin with /"),
    ],
)
def test_an_address_that_cannot_be_asked_is_told_at_the_start(auth: dict[str, str], words: str) -> None:
    assert words in problem(auth=auth)


def test_the_address_of_a_key_set_may_have_a_query() -> None:
    assert Settings(auth={"jwks_url": "https://a.example/keys?p=policy"}).auth.keyset_url.endswith("?p=policy")


def test_every_problem_is_told_at_once() -> None:
    text = problem(deadline_seconds=-1, limits={"bulkhead": 0})

    assert "deadline_seconds: " in text
    assert "limits.bulkhead: " in text


def test_a_variable_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_ROUTES", "s3cret")
    text = problem()

    assert "routes" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"environment": "prod"}, "environment"),
        ({"patience_seconds": 3.0}, "patience_seconds"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds"),
        ({"breaker": {"open_seconds": float("inf")}}, "breaker.open_seconds"),
        ({"session": {"expiry_grace_seconds": float("inf")}}, "session.expiry_grace_seconds"),
        ({"trusted_proxies": ["10.0.0.0/99"]}, "trusted_proxies"),
        ({"allowed_origins": ["https://app.example/"]}, "allowed_origins"),
        ({"allowed_origins": ["https://app.example?x=1"]}, "allowed_origins"),
        ({"allowed_origins": ["https://App.example"]}, "allowed_origins"),
        ({"allowed_origins": ["app.example"]}, "allowed_origins"),
        ({"public": ["health"]}, "public: 'health' can match no path: it does not begin with /; write /health/*"),
        ({"protect_http": ["/api*"]}, "protect_http: '/api*' can match no path"),
        ({"protect_http": ["/api/*", "!api/open"]}, "protect_http: 'api/open' can match no path"),
        ({"routes": [{"path": "/ws/{room}"}]}, "routes: '/ws/{room}' can match no path"),
        ({"allowed_origins": ["https://[::1"]}, "allowed_origins"),
        ({"allowed_origins": ["*"]}, "allowed_origins"),
        ({"allowed_origins": ["null"]}, "allowed_origins"),
        ({"auth": {"url": "auth.internal"}}, "auth.url"),
        ({"auth": {"url": "ftp://auth.internal"}}, "auth.url"),
        ({"auth": {"url": "https://"}}, "auth.url"),
        ({"auth": {"url": "https://me:s3cret@auth.internal"}}, "auth.url"),
        ({"auth": {"jwks_url": "file:///etc/keys"}}, "auth.jwks_url"),
        ({"auth": {"algorithms": ["HS256"]}}, "auth.algorithms"),
        ({"auth": {"algorithms": ["ES256", "none"]}}, "auth.algorithms"),
        ({"auth": {"algorithms": []}}, "auth.algorithms"),
        ({"auth": {"audience": ""}}, "auth.audience"),
        ({"auth": {"service_id_header": "X-Service-ID"}}, "auth.service_id_header"),
        ({"auth": {"service_secret": ["s3cret"]}}, "auth.service_secret"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(values: dict[str, Any], key: str) -> None:
    text = problem(**values)

    assert key in text
    assert "s3cret" not in text


def test_values_that_can_work_are_taken() -> None:
    settings = Settings(
        trusted_proxies=["10.0.0.1/8", "2001:db8::/32", "unix"],
        allowed_origins=["https://app.example:8443"],
        auth={"service_id_header": "X-Service-ID", "service_secret_header": "X-Service-Secret"},
    )

    assert settings.trusted_proxies == ("10.0.0.1/8", "2001:db8::/32", "unix")


# The auth service's address


@pytest.mark.parametrize("key", ["url", "jwks_url"])
@pytest.mark.parametrize("host", ["auth.internal", "10.0.0.1", "[2001:db8::1]", "localhost.example"])
def test_production_refuses_plain_http(key: str, host: str) -> None:
    auth = {"url": "https://auth.internal", key: f"http://{host}:8001"}

    assert "https is required in production" in problem(auth=auth)
    for environment in ("staging", "development"):
        assert Settings(auth=auth, environment=environment).auth.url


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost", "auth.localhost"])
def test_plain_http_on_loopback_is_fine_in_production(host: str) -> None:
    assert Settings(auth={"url": f"http://{host}:8001"}).environment is Environment.PRODUCTION


def test_the_rest_follows_from_the_url_unless_it_is_set() -> None:
    auth = Settings(auth={"url": "https://auth.internal/base/"}).auth
    own = Settings(auth={"url": "https://a.internal", "issuer": "https://i", "jwks_url": "https://k/keys"}).auth

    assert auth.base_url == auth.expected_issuer == "https://auth.internal/base"
    assert auth.keyset_url == "https://auth.internal/base/.well-known/jwks.json"
    assert (own.expected_issuer, own.keyset_url) == ("https://i", "https://k/keys")


def test_without_a_url_the_text_says_which_key_to_set() -> None:
    with pytest.raises(ConfigError, match=r"auth\.url is not set: set DOORWARD_AUTH__URL"):
        _ = Settings().auth.base_url


# Environments


@pytest.mark.parametrize(
    ("environment", "caps", "breaker"),
    [
        ("staging", (1, 2, 1, 2), (2, 10, 5, 30)),
        ("production", (2, 5, 3, 5), (5, None, 5, 60)),
        ("development", (1, 3, 1, 3), (5, None, 5, 60)),
    ],
)
def test_each_environment_has_its_own_numbers(
    environment: str, caps: tuple[float, ...], breaker: tuple[float | None, ...]
) -> None:
    settings = Settings(environment=environment)
    phase, policy = phase_caps(settings), breaker_policy(settings)

    assert (phase.connect_seconds, phase.read_seconds, phase.write_seconds, phase.pool_seconds) == caps
    assert (
        policy.failures,
        policy.failure_window_seconds,
        policy.open_seconds,
        policy.max_open_seconds,
    ) == breaker


def test_a_number_that_is_set_holds_in_every_environment() -> None:
    for environment in Environment:
        settings = Settings(
            environment=environment,
            breaker={"failures": 9, "max_open_seconds": 45},
            caps={"connect_seconds": 0.5, "read_seconds": 0.6, "write_seconds": 0.7, "pool_seconds": 0.8},
        )
        phase, policy = phase_caps(settings), breaker_policy(settings)
        assert (policy.failures, policy.max_open_seconds) == (9, 45)
        assert (phase.connect_seconds, phase.read_seconds, phase.write_seconds, phase.pool_seconds) == (
            0.5,
            0.6,
            0.7,
            0.8,
        )


def test_the_default_is_production_with_the_specified_numbers() -> None:
    settings = Settings()

    assert settings.environment is Environment.PRODUCTION
    assert settings.verify is Verify.REMOTE
    assert (settings.deadline_seconds, settings.patience_seconds) == (2.0, 0.5)
    assert (settings.limits.bulkhead, settings.limits.unproven_lane) == (64, 16)
    assert (settings.limits.address_rate_per_second, settings.limits.address_burst) == (200, 2_500)
    assert settings.limits.reconnect_rate_per_second == 100
    assert (settings.limits.first_message_waiting, settings.limits.first_message_waiting_per_address) == (256, 16)
    assert settings.limits.first_message_seconds == 5
    assert settings.limits.lingering_refusals == 128
    assert (settings.degrade.rate_per_second, settings.degrade.burst) == (500, 2_000)
    assert (settings.degrade.max_outage_seconds, settings.degrade.grant_seconds) == (1_800, 900)
    assert (settings.degrade.max_token_age_seconds, settings.degrade.max_keyset_age_seconds) == (3_600, 86_400)
    assert (settings.degrade.max_stale_seconds, settings.degrade.max_feed_age_seconds) == (1_800, 300)
    breaker = settings.breaker
    assert (breaker.window_seconds, breaker.min_calls) == (10, 10)
    assert (breaker.failure_rate, breaker.slow_rate, breaker.slow_seconds) == (0.5, 0.8, 1.0)
    assert (settings.cache.positive_seconds, settings.cache.negative_seconds) == (60, 5)
    assert (settings.cache.positive_entries, settings.cache.negative_entries) == (32_768, 4_096)
    assert (settings.session.expiring_notice_seconds, settings.session.expiry_grace_seconds) == (60, 900)
    assert settings.tickets.seconds == 30
    assert settings.trusted_proxies == ()
    assert RouteSettings(path="/ws").transports == ("header", "subprotocol", "ticket")


def test_no_ticket_lives_longer_than_30_seconds() -> None:
    assert Settings(tickets={"seconds": 30}).tickets.seconds == 30
    assert "tickets.seconds" in problem(tickets={"seconds": 30.1})


# What is shown


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = Settings(
        auth={"service_secret": "s3cret"},
        serve={"metrics_token": "s3cret"},
        authd={"admin_password": "s3cret", "database_url": "postgresql+asyncpg://me:s3cret@db.internal/auth"},
    )
    shown = {key: value for key, value, _ in settings.described()}

    assert "s3cret" not in str(shown)
    assert "s3cret" not in f"{settings.auth!r} {settings.serve!r} {settings.auth}"
    assert shown["auth.service_secret"] == shown["serve.metrics_token"] == shown["authd.admin_password"] == "***"
    assert shown["authd.database_url"] == "postgresql+asyncpg://me:***@db.internal/auth"


def test_each_setting_is_described_with_whether_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_AUTH__SERVICE_ID", "door")
    described = {key: (value, was_set) for key, value, was_set in Settings(allowed_origins=["https://a"]).described()}

    assert described["auth.service_id"] == ("door", True)
    assert described["auth.url"] == ("-", False)
    assert described["allowed_origins"] == ("https://a", True)
    assert described["trusted_proxies"] == ("-", False)
    assert described["environment"] == ("production", False)
    assert described["limits.bulkhead"] == ("64", False)


def test_a_key_knows_the_variable_that_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert variable_of("auth.url") is None
    monkeypatch.setenv("doorward_auth__url", "https://a")

    assert variable_of("auth.url") == "doorward_auth__url"


def test_a_process_of_ours_gets_just_the_settings_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_AUTH__SERVICE_SECRET", "s3cret")
    monkeypatch.setenv("UNRELATED", "kept")
    environment = child_environment({"auth.url": "https://a", "environment": "development"})

    assert {name: value for name, value in environment.items() if name.startswith(ENV_PREFIX)} == {
        "DOORWARD_AUTH__URL": "https://a",
        "DOORWARD_ENVIRONMENT": "development",
    }
    assert environment["UNRELATED"] == "kept"


# E2E test tokens

E2E = {"enabled": True, "audience": "here"}


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.DEVELOPMENT])
def test_test_tokens_may_be_switched_on_outside_production(environment: Environment) -> None:
    assert not Settings(environment=environment).e2e.enabled
    assert Settings(environment=environment, e2e=E2E).e2e.permissions == ("chat",)


def test_production_takes_no_test_tokens() -> None:
    assert "e2e.enabled: production takes no test tokens" in problem(e2e=E2E)
    assert "e2e.enabled: production takes no test tokens" in problem(e2e=E2E, environment="production")
    assert not Settings(e2e={"audience": "here"}).e2e.enabled


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"e2e": {"enabled": True}}, "e2e.audience is not set"),
        ({"e2e": {**E2E, "audience": ""}}, "e2e.audience"),
        ({"e2e": {**E2E, "permissions": ["chat", "admin"]}}, "'admin' is privileged"),
        ({"e2e": E2E, "degrade": {"privileged_scopes": ["chat"]}}, "'chat' is privileged"),
        ({"e2e": {**E2E, "tenant": "a:b"}}, "e2e.tenant"),
        ({"auth": {"typ": "application/Doorward-E2E+JWT"}}, "auth.typ is the type of E2E test tokens"),
    ],
)
def test_test_tokens_that_could_do_too_much(values: dict[str, Any], words: str) -> None:
    assert words in problem(environment="staging", **values)


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ({"token_header": "X-A", "token_cookie": "a"}, "exclude each other"),
        ({"protocol": "introspection", "token_header": "X-A"}, "by POST in a form"),
        ({"protocol": "introspection", "validate_method": "GET"}, "by POST in a form"),
        ({"validate_method": "GET"}, "GET has no body"),
        ({"token_header": "authorization"}, "where our own credential goes"),
        ({"invalid_statuses": (500,)}, "500 says nothing about a token"),
        ({"invalid_statuses": (401, 429)}, "429 says nothing about a token"),
        ({"claims": {"required": ("typ",)}}, "write name=value"),
    ],
)
def test_a_way_of_asking_that_cannot_work(auth: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Settings(auth=auth)


def test_ways_of_asking_that_can_work() -> None:
    named = {"service_id_header": "X-I", "service_secret_header": "X-S"}
    Settings(auth={"token_header": "Authorization", **named})
    Settings(auth={"token_header": "Authorization", "send_credential": False, "validate_method": "GET"})
    assert Settings(auth={"invalid_statuses": (401, 404)}).auth.invalid_statuses == (401, 404)


# Several issuers


def issuers(*entries: dict[str, Any], **values: Any) -> Settings:
    named = [{"url": f"https://{entry['name']}.example", **entry} for entry in entries]
    return Settings(**{"auth": {"url": "https://auth.example"}, "issuers": named, **values})


def test_auth_is_the_first_issuer_and_each_entry_one_more(toml: Path) -> None:
    toml.write_text(
        '[auth]\nurl = "https://auth.example"\n'
        '[[issuers]]\nname = "acme"\nurl = "https://acme.example/"\n[issuers.claims]\nuser_id = "uid"\n'
        '[[issuers]]\nname = "b-2"\nurl = "https://b.example"\ntenant = "beta"\nissuer = "https://b.example/"\n'
    )
    first, acme, beta = Settings.load(toml).each_issuer()

    assert [(each.name, each.tenant, each.section) for each in (first, acme, beta)] == [
        ("auth", None, "auth"),
        ("acme", "acme", "issuers.acme"),
        ("b-2", "beta", "issuers.b-2"),
    ]
    assert [each.settings.auth.expected_issuer for each in (first, acme, beta)] == [
        "https://auth.example",
        "https://acme.example",
        "https://b.example/",
    ]
    assert acme.settings.auth.claims.user_id == "uid"
    assert [each.reserved for each in (first, acme, beta)] == [("acme:", "beta:"), (), ()]


def test_one_issuer_is_the_settings_themselves() -> None:
    settings = Settings(auth={"url": "https://auth.example"})
    (only,) = settings.each_issuer()

    assert only.settings is settings
    assert (only.name, only.tenant, only.takes_opaque, only.takes_test_tokens) == ("auth", None, True, True)


def test_without_a_url_auth_is_no_issuer_beside_others() -> None:
    (only,) = issuers({"name": "acme"}, auth={"service_id": "of-authd"}).each_issuer()

    assert (only.name, only.tenant, only.settings.auth.service_id) == ("acme", "acme", "doorward")


@pytest.mark.parametrize(
    ("opaque", "taker"),
    [((None, None), "auth"), ((True, None), "acme"), ((None, True), "beta"), ((False, None), "auth")],
)
def test_opaque_tokens_are_of_the_first_unless_another_says_so(opaque: tuple[bool | None, ...], taker: str) -> None:
    entries = [{"name": name, "opaque": said} for name, said in zip(("acme", "beta"), opaque, strict=True)]

    assert [each.name for each in issuers(*entries).each_issuer() if each.takes_opaque] == [taker]


def test_nobody_needs_to_take_opaque_tokens() -> None:
    every = issuers({"name": "acme", "opaque": False}, {"name": "beta"}, auth={}).each_issuer()

    assert not any(each.takes_opaque for each in every)


def test_an_entry_says_what_differs_and_no_more() -> None:
    entry = {"name": "acme", "verify": "local", "degrade": {"mode": "deny"}, "breaker": {"canary": False}}
    settings = issuers(entry, degrade={"grant_seconds": 60}, breaker={"failures": 3})
    first, acme = settings.each_issuer()

    assert first.settings is settings
    assert (acme.settings.verify, acme.settings.degrade.mode) == (Verify.LOCAL, Mode.DENY)
    assert acme.settings.degrade.grant_seconds == 60
    assert (acme.settings.breaker.canary, acme.settings.breaker.failures) == (False, 3)
    assert (first.settings.verify, first.settings.degrade.mode) == (Verify.REMOTE, None)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"name": "auth"}], "issuers: 'auth' is the name of another"),
        ([{"name": "acme"}, {"name": "acme", "url": "https://b.example"}], "issuers: 'acme' is the name of another"),
        ([{"name": "acme"}, {"name": "beta", "tenant": "acme"}], "issuers.beta.tenant: 'acme' is that of issuers.acme"),
        (
            [{"name": "acme", "issuer": "https://auth.example"}],
            "issuers.acme.issuer: 'https://auth.example' is that of auth already",
        ),
        (
            [{"name": "acme", "opaque": True}, {"name": "beta", "opaque": True}],
            "issuers.beta.opaque: acme has the opaque tokens",
        ),
        ([{"name": "acme", "url": "http://acme.example"}], "issuers.acme.url: https is required in production"),
        ([{"name": "acme", "algorithms": ["HS256"]}], "issuers.acme.algorithms: 'HS256' is not accepted"),
        ([{"name": "acme", "typ": "doorward-e2e+jwt"}], "issuers.acme.typ is the type of E2E test tokens"),
        ([{"name": "acme", "claims": {"user": "uid"}}], "issuers.acme.claims.user: unknown key"),
        ([{"name": "acme", "urll": "x"}], "issuers.acme.urll: unknown key; did you mean 'issuers.acme.url'?"),
        ([{"name": "Acme"}], "issuers.Acme.name: String should match pattern"),
        ([{"name": "acme:x"}], "name: String should match pattern"),
        ([{"name": "acme", "tenant": "a:b"}], "issuers.acme.tenant: String should match pattern"),
        ([{"name": f"n{number}"} for number in range(33)], "issuers: Tuple should have at most 32 items"),
    ],
)
def test_issuers_that_could_be_taken_for_one_another(entries: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        issuers(*entries)
    assert words in str(caught.value)


def test_an_entry_needs_a_name_and_a_url() -> None:
    assert "issuers.0.name: Field required" in problem(issuers=[{"url": "https://acme.example"}])
    assert "issuers.acme.url: Field required" in problem(issuers=[{"name": "acme"}])


def test_test_users_are_of_no_issuers_tenant() -> None:
    e2e = {"enabled": True, "audience": "here", "tenant": "acme"}
    with pytest.raises(ConfigError, match=r"e2e\.tenant: 'acme' is that of issuers\.acme"):
        issuers({"name": "acme"}, environment="staging", e2e=e2e)
    with pytest.raises(ConfigError, match=r"e2e\.issuer: there is no issuer 'beta'; there is auth, acme"):
        issuers({"name": "acme"}, e2e={"issuer": "beta"})
    with pytest.raises(ConfigError, match=r"e2e\.permissions: 'write' is privileged"):
        issuers(
            {"name": "acme", "degrade": {"privileged_scopes": ["write"]}},
            environment="staging",
            e2e={"enabled": True, "audience": "here", "permissions": ["write"]},
        )
    first, acme = issuers(
        {"name": "acme"}, environment="staging", e2e={"enabled": True, "audience": "here", "issuer": "acme"}
    ).each_issuer()
    assert (first.takes_test_tokens, acme.takes_test_tokens) == (False, True)
    assert first.reserved == ("acme:", "e2e:")


def test_the_secret_of_an_entry_may_be_in_the_environment(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text(
        '[[issuers]]\nname = "acme-eu"\nurl = "https://file"\nservice_id = "file"\naudience = ["file"]\n'
        '[[issuers]]\nname = "beta"\nurl = "https://beta.example"\n'
    )
    monkeypatch.setenv("DOORWARD_ISSUERS__ACME_EU__SERVICE_SECRET", "of-acme")
    monkeypatch.setenv("DOORWARD_ISSUERS__ACME_EU__URL", "https://environment")
    monkeypatch.setenv("doorward_issuers__acme_eu__audience", "one, two")
    monkeypatch.setenv("DOORWARD_ISSUERS__ACME_EU__INVALID_STATUSES", "[401]")
    monkeypatch.setenv("DOORWARD_ISSUERS__ACME_EU__DEGRADE__MODE", "deny")
    acme, beta = Settings.load(toml).issuers

    assert acme.service_secret is not None
    assert acme.service_secret.get_secret_value() == "of-acme"
    assert (acme.url, acme.service_id, acme.audience) == ("https://environment", "file", ("one", "two"))
    assert (acme.invalid_statuses, acme.degrade.mode) == ((401,), Mode.DENY)
    assert (beta.url, beta.service_secret) == ("https://beta.example", None)
    assert Settings.load(toml, issuers=[{"name": "acme-eu", "url": "https://arguments"}]).issuers[0].url == (
        "https://arguments"
    )


def test_all_entries_may_be_in_one_variable(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('[[issuers]]\nname = "file"\nurl = "https://file"\n')
    monkeypatch.setenv("DOORWARD_ISSUERS", '[{"name": "acme", "url": "https://acme.example"}]')
    monkeypatch.setenv("DOORWARD_ISSUERS__ACME__SERVICE_SECRET", "of-acme")
    (acme,) = Settings.load(toml).issuers

    assert (acme.name, acme.service_secret is not None) == ("acme", True)
    monkeypatch.delenv("DOORWARD_ISSUERS__ACME__SERVICE_SECRET")
    monkeypatch.setenv("DOORWARD_ISSUERS", "acme")
    assert "write it as JSON" in problem()


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("DOORWARD_ISSUERS__ACNE__SERVICE_SECRET", "DOORWARD_ISSUERS__ACME__SERVICE_SECRET"),
        ("DOORWARD_ISSUERS__ACME__SERVICE_SECRT", "DOORWARD_ISSUERS__ACME__SERVICE_SECRET"),
        ("DOORWARD_ISSUERS__ACME", None),
        ("DOORWARD_ISSUERS__ACME__NAME", None),
        ("DOORWARD_ISSUERS__ACME__CLAIMS", None),
    ],
)
def test_a_variable_of_no_issuer_is_unknown(
    variable: str, suggestion: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigError, match="unknown variable") as caught:
        issuers({"name": "acme"})
    assert suggestion is None or f"did you mean {suggestion!r}" in str(caught.value)


def test_a_wrong_value_of_an_entry_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_ISSUERS__ACME__DEGRADE__GRANT_SECONDS", "soon")
    with pytest.raises(ConfigError) as caught:
        issuers({"name": "acme"})
    assert "issuers.acme.degrade.grant_seconds" in str(caught.value)
    assert "environment variable DOORWARD_ISSUERS__ACME__DEGRADE__GRANT_SECONDS" in str(caught.value)


def test_every_key_of_an_entry_is_described_and_its_secret_masked() -> None:
    described = {
        key: (value, was_set)
        for key, value, was_set in issuers({"name": "acme", "service_secret": "s3cret"}).described()
    }

    assert described["issuers.acme.url"] == ("https://acme.example", True)
    assert described["issuers.acme.service_secret"] == ("***", True)
    assert described["issuers.acme.degrade.mode"] == ("-", False)
    assert "s3cret" not in str(described)
    assert variable_for("issuers.acme-eu.service_secret") == "DOORWARD_ISSUERS__ACME_EU__SERVICE_SECRET"


def test_an_entry_may_be_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_ISSUERS__ACME__SERVICE_SECRET", "of-acme")
    entry = IssuerSettings(name="acme", url="https://acme.example", service_id="chat")
    (acme,) = Settings(issuers=[entry]).issuers

    assert (acme.url, acme.service_id, acme.service_secret is not None) == ("https://acme.example", "chat", True)
