"""The chat's HTTP interface as an OpenAPI 3.1 document, made of the operations that serve it.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from doorward.chat.api import OPERATIONS, Operation
from doorward.chat.commands import MAX_ID_LENGTH, NAME_CHARACTERS
from doorward.chat.problem import MEDIA_TYPE
from doorward.chat.views import Problem, schemas

Schema = dict[str, Any]

_REFUSALS: Final = {
    400: "The request cannot be read",
    401: "No bearer token, or one that is not valid",
    403: "The token does not allow this",
    404: "There is no such thread of yours",
    409: "As many threads as there may be",
    413: "The body is too long",
    415: "The body is not JSON",
    503: "The token or the storage cannot be asked now; try again after `Retry-After`",
}
_THREAD_ID: Final[Schema] = {
    "name": "thread_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH, "pattern": f"^{NAME_CHARACTERS}+$"},
}


def document(version: str) -> Schema:
    """The whole document, JSON-able. `version` is the product's."""
    kinds = {kind for operation in OPERATIONS for kind in (operation.body, *operation.answers.values()) if kind}
    _, components = schemas(*sorted(kinds, key=lambda kind: kind.__name__), Problem)
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Doorward chat",
            "version": version,
            "description": "A user's threads. What is said in them goes over `/ws` (AsyncAPI, asyncapi.json).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> Schema:
    content: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            **{str(status): _answer(kind) for status, kind in operation.answers.items()},
            **{str(status): _refusal(_REFUSALS[status]) for status in refusals(operation)},
        },
    }
    if parameters := [*([_THREAD_ID] if "{" in operation.path else []), *_query(operation)]:
        content["parameters"] = parameters
    if operation.body is not None:
        content["requestBody"] = {"required": True, "content": _json(operation.body)}
    return content


def refusals(operation: Operation) -> list[int]:
    """The statuses with which an operation may be refused."""
    statuses = {401, 403, 503}
    if operation.query is not None or operation.body is not None:
        statuses.add(400)
    if operation.body is not None:
        statuses |= {413, 415}
    if "{" in operation.path:
        statuses.add(404)
    if operation.name == "createThread":
        statuses |= {404, 409}
    return sorted(statuses)


def _answer(kind: type[msgspec.Struct] | None) -> Schema:
    return {"description": "Done"} if kind is None else {"description": "Done", "content": _json(kind)}


def _refusal(description: str) -> Schema:
    (ref,), _ = schemas(Problem)
    return {"description": description, "content": {MEDIA_TYPE: {"schema": ref}}}


def _json(kind: type[msgspec.Struct]) -> Schema:
    (ref,), _ = schemas(kind)
    return {"application/json": {"schema": ref}}


def _query(operation: Operation) -> list[Schema]:
    if operation.query is None:
        return []
    _, components = schemas(operation.query)
    properties: dict[str, Schema] = components[operation.query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": _given(schema)} for name, schema in properties.items()]


def _given(schema: Schema) -> Schema:
    """A query string has no null: what may be left out is left out."""
    if "anyOf" not in schema:
        return schema
    given: Schema = next(choice for choice in schema["anyOf"] if choice.get("type") != "null")
    return given
