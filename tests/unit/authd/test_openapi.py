from __future__ import annotations

import schemathesis

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
