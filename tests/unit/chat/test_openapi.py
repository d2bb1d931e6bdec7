from __future__ import annotations

import schemathesis
from tests.chat_support import FakeInsight

from doorward.chat.api import OPERATIONS
from doorward.chat.app import create_app
from doorward.chat.openapi import document, refusals
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


def test_every_path_under_api_that_asks_for_a_token_is_described() -> None:
    app = create_app(Settings(auth={"url": "http://127.0.0.1:1"}), insight=FakeInsight(), ready=lambda: True)
    served = {path for route in app.routes if (path := getattr(route, "path", "")).startswith("/api/")}
    assert served - {"/api/config", "/api/openapi.json"} == set(document("1")["paths"])


def test_patterns_are_those_of_ecma_262() -> None:
    assert "\\Z" not in str(document("1"))
