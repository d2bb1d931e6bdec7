from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from doorward.core.answer import Valid
from doorward.core.claims import ClaimsPolicy, check, is_expired, merged
from doorward.core.verdict import Code, Deny, Principal

NOW = 1_700_000_000.0
ISSUER = "https://auth.example"
POLICY = ClaimsPolicy(ISSUER, frozenset({"doorward", "chat"}))


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with changes; `...` leaves a claim out."""
    good = {"iss": ISSUER, "aud": "doorward", "sub": "ada", "iat": NOW - 10, "exp": NOW + 600}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def judged(**changes: Any) -> Principal | Deny:
    return check(claims(**changes), POLICY, NOW)


def test_good_claims_name_a_principal() -> None:
    found = judged(sid="s1", jti="j1", email="ada@example.test", permissions=["chat", 7])

    assert found == Principal(
        "ada", ISSUER, "ada@example.test", frozenset({"chat"}), "s1", "j1", issued_at=NOW - 10, expires_at=NOW + 600
    )


def test_the_user_and_session_claims_may_have_other_names() -> None:
    policy = ClaimsPolicy(ISSUER, frozenset({"doorward"}), user_claim="uid", session_claim="session")
    found = check(claims(uid="u1", session="s1"), policy, NOW)

    assert isinstance(found, Principal)
    assert (found.user_id, found.session_id) == ("u1", "s1")


def test_scope_words_count_where_no_permissions_are() -> None:
    scoped = judged(scope="chat  admin")
    both = judged(scope="admin", permissions=["chat"])
    neither = judged(scope=["admin"])

    assert isinstance(scoped, Principal)
    assert isinstance(both, Principal)
    assert isinstance(neither, Principal)
    assert scoped.permissions == {"chat", "admin"}
    assert both.permissions == {"chat"}
    assert neither.permissions == frozenset()


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": ...},
        {"iss": "https://evil.example"},
        {"iss": ISSUER + "/"},
        {"iss": ISSUER.upper()},
        {"iss": [ISSUER]},
        {"aud": ...},
        {"aud": "other"},
        {"aud": []},
        {"aud": ["other", 7]},
        {"aud": {"doorward": True}},
        {"aud": "doorward chat"},
        {"sub": ...},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["ada"]},
        {"exp": ...},
        {"exp": None},
        {"exp": str(NOW + 600)},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"exp": [NOW + 600]},
        {"nbf": "0"},
        {"nbf": None},
        {"nbf": NOW + 31},
        {"iat": NOW + 31},
        {"iat": False},
        {"iat": -(10**400)},
    ],
)
def test_claims_that_break_a_rule_are_invalid(changes: dict[str, Any]) -> None:
    found = judged(**changes)

    assert isinstance(found, Deny)
    assert found.code is Code.TOKEN_INVALID
    assert found.detail


@pytest.mark.parametrize("aud", ["chat", ["other", "chat"], ["doorward", 7]])
def test_any_of_our_audiences_in_the_list_will_do(aud: object) -> None:
    assert isinstance(judged(aud=aud), Principal)


def test_a_clock_that_is_a_little_off_is_forgiven() -> None:
    assert isinstance(judged(nbf=NOW + 30, iat=NOW + 30), Principal)
    assert isinstance(judged(exp=NOW - 4.9), Principal)


@pytest.mark.parametrize("exp", [NOW - 5, NOW - 600, 0, -1])
def test_an_expired_token_is_told_apart_from_an_invalid_one(exp: float) -> None:
    assert judged(exp=exp) == Deny(Code.TOKEN_EXPIRED, judged(exp=exp).source)  # type: ignore[union-attr]


def test_an_expired_token_of_another_issuer_is_invalid() -> None:
    found = judged(exp=NOW - 600, iss="https://evil.example")

    assert isinstance(found, Deny)
    assert found.code is Code.TOKEN_INVALID


@pytest.mark.parametrize(
    ("iss", "words"),
    [
        (f"{ISSUER}/", f"iss is not {ISSUER}, but for a slash at its end"),
        ("https://evil.example", f"iss is not {ISSUER}"),
        (7, f"iss is not {ISSUER}"),
    ],
)
def test_the_expected_issuer_is_named_and_a_slash_too_many_told(iss: object, words: str) -> None:
    found = judged(iss=iss)

    assert isinstance(found, Deny)
    assert found.detail == words


def test_optional_claims_of_other_types_are_left_out() -> None:
    found = judged(sid=7, jti="", email=["x"])

    assert isinstance(found, Principal)
    assert (found.session_id, found.jti, found.email) == (None, None, None)


def test_a_token_without_iat_has_no_age() -> None:
    found = judged(iat=...)

    assert isinstance(found, Principal)
    assert found.issued_at is None


def test_expiry_is_asked_again_later() -> None:
    assert is_expired(Principal("ada", ISSUER, expires_at=NOW), POLICY, NOW + 4.9) is False
    assert is_expired(Principal("ada", ISSUER, expires_at=NOW), POLICY, NOW + 5) is True
    assert is_expired(Principal("ada", ISSUER), POLICY, NOW * 2) is False


LOCAL = Principal(
    "ada", ISSUER, "old@example.test", frozenset({"admin"}), "s1", "j1", issued_at=NOW, expires_at=NOW + 600
)


def test_live_permissions_replace_the_claims_and_the_smaller_expiry_holds() -> None:
    answer = Valid("ada", "new@example.test", frozenset({"chat"}), "s1", expires_at=NOW + 60)

    assert merged(LOCAL, answer, POLICY) == Principal(
        "ada", ISSUER, "new@example.test", frozenset({"chat"}), "s1", "j1", issued_at=NOW, expires_at=NOW + 60
    )


def test_an_answer_that_says_little_leaves_what_the_token_says() -> None:
    found = merged(LOCAL, Valid("ada"), POLICY)

    assert found is not None
    assert (found.email, found.session_id, found.expires_at) == ("old@example.test", "s1", NOW + 600)
    assert found.permissions == frozenset()


def test_a_longer_expiry_in_the_answer_does_not_count() -> None:
    found = merged(LOCAL, Valid("ada", expires_at=NOW + 9_999), POLICY)

    assert found is not None
    assert found.expires_at == NOW + 600


def test_the_answer_may_name_the_session_that_the_token_does_not() -> None:
    found = merged(Principal("ada", ISSUER), Valid("ada", session_id="s9"), POLICY)

    assert found is not None
    assert (found.session_id, found.expires_at) == ("s9", None)


@pytest.mark.parametrize("answer", [Valid("eve"), Valid("ada", session_id="s2"), Valid("Ada")])
def test_an_answer_about_somebody_else_names_nobody(answer: Valid) -> None:
    assert merged(LOCAL, answer, POLICY) is None


def test_an_opaque_token_is_who_the_service_says() -> None:
    answer = Valid("ada", "a@example.test", frozenset({"chat"}), "s1", NOW + 60)

    assert merged(None, answer, POLICY) == Principal(
        "ada", ISSUER, "a@example.test", frozenset({"chat"}), "s1", expires_at=NOW + 60
    )


# Claims of another shape


def test_claims_that_are_elsewhere() -> None:
    policy = ClaimsPolicy(
        ISSUER,
        frozenset({"app-1"}),
        user_claim="user.id",
        session_claim="origin_jti",
        email_claim="https://app.example/email",
        audience_claim="client_id",
        permission_claims=("realm_access.roles", "scope"),
        required=(("token_use", "access"),),
    )
    said: dict[str, Any] = {
        "iss": ISSUER,
        "client_id": "app-1",
        "exp": NOW + 60,
        "user": {"id": "ada"},
        "origin_jti": "s-1",
        "https://app.example/email": "ada@example.com",
        "realm_access": {"roles": ["chat"]},
        "scope": "read write",
        "permissions": ["not these"],
        "token_use": "access",
    }
    principal = check(said, policy, NOW)
    assert isinstance(principal, Principal)
    assert (principal.user_id, principal.session_id, principal.email) == ("ada", "s-1", "ada@example.com")
    assert principal.permissions == {"chat", "read", "write"}
    changes: list[dict[str, Any]] = [
        {"token_use": "id"},
        {"token_use": None},
        {"client_id": "app-2"},
        {"user": {"id": 7}},
        {"user": "ada"},
    ]
    for change in changes:
        denied = check({**said, **change}, policy, NOW)
        assert isinstance(denied, Deny)
        assert denied.code is Code.TOKEN_INVALID


# Several issuers


def test_the_users_of_a_tenant_are_called_so() -> None:
    policy = replace(POLICY, tenant="acme")
    found = check(claims(sub="ada"), policy, NOW)
    assert isinstance(found, Principal)
    assert (found.user_id, found.subject, found.tenant, found.issuer) == ("acme:ada", "ada", "acme", ISSUER)
    answered = merged(found, Valid("ada", permissions=frozenset({"chat"})), policy)
    assert answered is not None
    assert (answered.user_id, answered.tenant) == ("acme:ada", "acme")
    assert merged(found, Valid("acme:ada"), policy) is None, "the service knows her by her own name"
    opaque = merged(None, Valid("ada"), policy)
    assert opaque is not None
    assert (opaque.user_id, opaque.subject) == ("acme:ada", "ada")


def test_a_user_of_a_tenant_may_be_called_anything() -> None:
    """Also like one of another tenant: with its own tenant before it, it is nobody else's name."""
    found = check(claims(sub="beta:ada"), replace(POLICY, tenant="acme"), NOW)
    assert isinstance(found, Principal)
    assert (found.user_id, found.subject) == ("acme:beta:ada", "beta:ada")


@pytest.mark.parametrize("name", ["acme:ada", "acme:", "e2e:ada"])
def test_nobody_without_a_tenant_is_called_like_somebody_of_one(name: str) -> None:
    policy = replace(POLICY, reserved=("acme:", "e2e:"))
    found = check(claims(sub=name), policy, NOW)
    assert isinstance(found, Deny)
    assert found.code is Code.TOKEN_INVALID
    assert merged(None, Valid(name), policy) is None
    assert isinstance(check(claims(sub="acme"), policy, NOW), Principal)
    assert isinstance(check(claims(sub="acmes:ada"), policy, NOW), Principal)
