from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from jsonschema import Draft202012Validator

from doorward.authd.app import create_app
from doorward.authd.openapi import OPERATIONS, document, refusals
from doorward.config import Settings


def test_the_document_is_openapi() -> None:
    schemathesis.openapi.from_dict(document("1.2.3")).validate()


def test_every_operation_is_described_with_all_its_answers() -> None:
    paths = document("1.2.3")["paths"]
    described = {(path, method.upper()) for path, methods in paths.items() for method in methods}
    assert described == {(operation.path, operation.method) for operation in OPERATIONS}
    for operation in OPERATIONS:
        responses = paths[operation.path][operation.method.lower()]["responses"]
        assert set(responses) == {str(status) for status in (*operation.answers, *refusals(operation))}


def test_every_route_is_described_with_its_method() -> None:
    app = create_app(Settings(authd={"allow_register": True}), issuer="http://auth.test")
    served = {(route.path, method) for route in app.routes for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    described = {(operation.path, operation.method) for operation in OPERATIONS}
    assert served - {("/auth/openapi.json", "GET")} == described


@pytest.mark.parametrize(
    ("kind", "body", "is_taken"),
    [
        ("LoginBody", {"email": "ann@example.com", "password": "correct horse"}, True),
        ("LoginBody", {"email": None, "one_time_code": "x"}, True),
        ("LoginBody", {"email": "ann@example.com"}, False),
        ("LoginBody", {"email": "ann@example.com", "password": ""}, False),
        ("LoginBody", {"email": "ann@example.com", "password": "correct horse", "one_time_code": "x"}, False),
        ("RegisterBody", {"email": " Ann@Example.com", "password": "correct horse"}, True),
        ("RegisterBody", {"email": "no address", "password": "correct horse"}, False),
        ("RegisterBody", {"email": "ann\x9b@example.com", "password": "correct horse"}, False),
        ("RegisterBody", {"email": "ann@example.com", "password": "short"}, False),
        ("RevokeBody", {"jti": "x", "user_id": None}, True),
        ("RevokeBody", {"jti": "x", "user_id": "y"}, False),
        ("RevokeBody", {"session_id": "x" * 257}, False),
        ("RevokeBody", {}, False),
    ],
)
def test_the_document_takes_the_bodies_that_the_service_takes(kind: str, body: dict[str, Any], is_taken: bool) -> None:
    assert Draft202012Validator(document("1")["components"]["schemas"][kind]).is_valid(body) is is_taken


def test_a_refresh_token_leads_on() -> None:
    paths = document("1")["paths"]
    for path, status in (("/auth/login", "200"), ("/auth/register", "201"), ("/auth/refresh", "200")):
        links = paths[path]["post"]["responses"][status]["links"]
        assert {link["operationId"] for link in links.values()} == {"refresh", "logout"}
