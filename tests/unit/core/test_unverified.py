"""What a token says of itself: enough to choose by, and nothing that a bad one could break."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from doorward.core.unverified import expected_audience, unverified_issuer


def encoded(content: object) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwt(claims: object, header: object = {"alg": "ES256"}) -> str:
    return f"{encoded(header)}.{encoded(claims)}.c2ln"


@pytest.mark.parametrize(
    ("claims", "issuer"),
    [
        ({"iss": "https://a.example"}, "https://a.example"),
        ({"iss": "https://a.example/"}, "https://a.example/"),
        (b'{"iss": "https://a.example", "iss": "https://b.example"}', "https://b.example"),
        ({"iss": ""}, ""),
        ({"iss": ["https://a.example"]}, ""),
        ({"iss": None}, ""),
        ({"sub": "ada"}, ""),
        (["https://a.example"], ""),
        (b"{", ""),
        (b"[" * 100_000, ""),
    ],
    ids=["one", "slash", "twice", "empty", "list", "null", "none", "no object", "no json", "deep"],
)
def test_the_issuer_that_a_jwt_names(claims: object, issuer: str) -> None:
    assert unverified_issuer(jwt(claims)) == issuer


@pytest.mark.parametrize("payload", ["!", "a", "", "=", "\u00e9", encoded({"iss": "x"})[:-3]])
def test_a_payload_that_cannot_be_read_names_nobody(payload: str) -> None:
    header, _, signature = jwt({}).split(".")
    assert unverified_issuer(f"{header}.{payload}.{signature}") == ""
    assert expected_audience(f"{header}.{payload}.{signature}", ("one", "two"), "aud") == "one"


@pytest.mark.parametrize(
    "token", ["opaque", "a.b", "a.b.c", "a.b.c.d.e", jwt({"iss": "x"}, {"typ": "JWT"}), jwt({"iss": "x"}, ["alg"]), ""]
)
def test_what_is_no_jwt_names_no_issuer(token: str) -> None:
    assert unverified_issuer(token) is None


@pytest.mark.parametrize(
    ("claims", "accepted", "expected"),
    [
        ({"aud": "one"}, ("one", "two"), "one"),
        ({"aud": "two"}, ("one", "two"), "two"),
        ({"aud": ["three", "two"]}, ("one", "two"), "two"),
        ({"aud": ["two", "one"]}, ("one", "two"), "one"),
        ({"aud": "three"}, ("one", "two"), "one"),
        ({"aud": 7}, ("one", "two"), "one"),
        ({}, ("one", "two"), "one"),
        ({"aud": "two"}, ("one",), "one"),
    ],
)
def test_the_audience_that_a_service_is_asked_for(claims: Any, accepted: tuple[str, ...], expected: str) -> None:
    assert expected_audience(jwt(claims), accepted, "aud") == expected


def test_another_claim_may_hold_the_audience() -> None:
    assert expected_audience(jwt({"aud": "two", "client_id": "three"}), ("one", "two", "three"), "client_id") == "three"


def test_an_opaque_token_is_for_the_first() -> None:
    assert expected_audience("opaque", ("one", "two"), "aud") == "one"
