from __future__ import annotations

import pytest
import schemathesis
from jsonschema import Draft202012Validator
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


@pytest.mark.parametrize(
    ("path", "cursor", "is_taken"),
    [
        ("/api/threads", "1767225600000.t:1", True),
        ("/api/threads", "1767225600000", False),
        ("/api/threads", "1.a b", False),
        ("/api/threads/{thread_id}/messages", "17", True),
        ("/api/threads/{thread_id}/messages", "-1", False),
        ("/api/threads/{thread_id}/runs", "17", True),
        ("/api/threads/{thread_id}/runs", "1" * 17, False),
    ],
)
def test_the_document_takes_the_cursors_that_the_server_takes(path: str, cursor: str, is_taken: bool) -> None:
    (schema,) = (
        each["schema"] for each in document("1")["paths"][path]["get"]["parameters"] if each["name"] == "cursor"
    )
    assert Draft202012Validator(schema).is_valid(cursor) is is_taken


def test_the_document_takes_no_title_of_nothing() -> None:
    schema = document("1")["components"]["schemas"]["ThreadRename"]
    assert Draft202012Validator(schema).is_valid({"title": "t"})
    assert not Draft202012Validator(schema).is_valid({"title": " \n "})
