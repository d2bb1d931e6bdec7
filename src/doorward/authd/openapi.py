"""The auth service's HTTP interface as an OpenAPI 3.1 document, made of the types that its endpoints read and write.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from doorward.authd.feed import CURSOR_PATTERN, MAX_WAIT_SECONDS
from doorward.authd.wire import (
    Body,
    Healthy,
    LoginBody,
    LogoutBody,
    NotValid,
    Problem,
    PublishedKeys,
    RefreshBody,
    Refusal,
    RegisterBody,
    RevocationPage,
    RevokeBody,
    Revoked,
    Tokens,
    UserView,
    Valid,
    ValidateBody,
)

Schema = dict[str, Any]

PROBLEM_TYPE: Final = "application/problem+json"
BEARER: Final = "bearer"
SERVICE: Final = "service"

_REFUSALS: Final[dict[int, tuple[type[msgspec.Struct], str]]] = {
    400: (Refusal, "The request is not what the endpoint takes; on a refresh, `invalid_grant`: signed out"),
    401: (Refusal, "The credential is missing or not good; `error` says which"),
    403: (Refusal, "Needs the permission `admin`"),
    404: (Problem, "There is no such session or user, or no such path here"),
    408: (Problem, "The body did not arrive in time"),
    409: (Refusal, "There is an account with this address"),
    410: (Problem, "Start the feed from a snapshot"),
    413: (Problem, "The body is larger than 64 KiB"),
    429: (Refusal, "Slow down, as `Retry-After` says"),
    503: (Problem, "Could not tell; keep your tokens and ask again after `Retry-After`"),
}
_OF_A_BODY: Final = {400, 408, 413}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        answers: what comes with each status of success; one of several kinds, or nothing.
        refusals: the statuses of refusal besides those that every body, credential or question to the store may meet.
        credential: the security scheme, or `None`.
        asks_store: may answer 503.
        gives_refresh_token: what comes with success leads on to a new pair, and to the end of the session.
    """

    name: str
    method: str
    path: str
    summary: str
    answers: dict[int, tuple[type[msgspec.Struct], ...]]
    body: type[Body] | None = None
    body_required: bool = True
    refusals: frozenset[int] = frozenset()
    credential: str | None = None
    credential_required: bool = True
    query: tuple[Schema, ...] = ()
    asks_store: bool = True
    gives_refresh_token: bool = False


_FEED_QUERY: Final[tuple[Schema, ...]] = (
    {
        "name": "after",
        "in": "query",
        "description": "`cursor` of the page before; goes with `epoch`",
        "schema": {"type": "string", "pattern": f"^{CURSOR_PATTERN}$"},
    },
    {
        "name": "epoch",
        "in": "query",
        "description": "`epoch` of the page before; goes with `after`",
        "schema": {"type": "string"},
    },
    {
        "name": "wait",
        "in": "query",
        "description": "seconds to wait for something new",
        "schema": {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "default": 0},
    },
)

OPERATIONS: Final = (
    Operation(
        "login",
        "POST",
        "/auth/login",
        "Sign in with `email` and `password`, or with `one_time_code`",
        {200: (Tokens,)},
        body=LoginBody,
        refusals=frozenset({401, 429}),
        gives_refresh_token=True,
    ),
    Operation(
        "register",
        "POST",
        "/auth/register",
        "Make an account; 404 unless `authd.allow_register`",
        {201: (Tokens,)},
        body=RegisterBody,
        refusals=frozenset({404, 409, 429}),
        gives_refresh_token=True,
    ),
    Operation(
        "refresh",
        "POST",
        "/auth/refresh",
        "New tokens for old",
        {200: (Tokens,)},
        body=RefreshBody,
        gives_refresh_token=True,
    ),
    Operation(
        "logout",
        "POST",
        "/auth/logout",
        "End the session of the refresh token, or that of the access token",
        {204: ()},
        body=LogoutBody,
        body_required=False,
        credential=BEARER,
        credential_required=False,
    ),
    Operation("me", "GET", "/auth/me", "Whose token this is", {200: (UserView,)}, credential=BEARER),
    Operation(
        "revoke",
        "POST",
        "/auth/revoke",
        "Revoke exactly one of a token, a session, or everything of a user; needs the permission `admin`",
        {200: (Revoked,)},
        body=RevokeBody,
        refusals=frozenset({403, 404}),
        credential=BEARER,
    ),
    Operation(
        "validate",
        "POST",
        "/auth/validate",
        "Is this token good, now?",
        {200: (Valid, NotValid)},
        body=ValidateBody,
        credential=SERVICE,
    ),
    Operation(
        "revocations",
        "GET",
        "/auth/revocations",
        "What was revoked since; without `after` and `epoch` a snapshot",
        {200: (RevocationPage,)},
        refusals=frozenset({400, 410}),
        credential=SERVICE,
        query=_FEED_QUERY,
    ),
    Operation("health", "GET", "/auth/health", "Does the store answer?", {200: (Healthy,)}),
    Operation(
        "keySet",
        "GET",
        "/.well-known/jwks.json",
        "The key set (RFC 7517)",
        {200: (PublishedKeys,)},
        asks_store=False,
    ),
)

_ONE_OF: Final[dict[type[Body], tuple[tuple[str, ...], ...]]] = {
    LoginBody: (("email", "password"), ("one_time_code",)),
    RevokeBody: (("jti",), ("session_id",), ("user_id",)),
}
"""Bodies of which just one set of fields is to be sent."""

_LINKS: Final[Schema] = {
    name: {"operationId": name, "requestBody": {"refresh_token": "$response.body#/refresh_token"}}
    for name in ("refresh", "logout")
}


def document(version: str) -> Schema:
    """The whole document, JSON-able. `version` is the product's."""
    kinds: set[type[msgspec.Struct]] = {Refusal, Problem}
    for operation in OPERATIONS:
        kinds |= {kind for answer in operation.answers.values() for kind in answer}
        kinds |= {operation.body} if operation.body else set()
    in_order = sorted(kinds, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(in_order, ref_template=_REF)
    for kind, choices in _ONE_OF.items():
        described = components[kind.__name__]
        components[kind.__name__] = {
            "title": described["title"],
            "oneOf": [_choice(described["properties"], fields) for fields in choices],
        }
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Doorward authd",
            "version": version,
            "description": "Users, their sessions and tokens; and what a door asks of any auth service.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                BEARER: {"type": "http", "scheme": "bearer", "description": "an access token"},
                SERVICE: {
                    "type": "http",
                    "scheme": "basic",
                    "description": "`auth.service_id` and `auth.service_secret`",
                },
            },
        },
    }


def refusals(operation: Operation) -> list[int]:
    """The statuses with which an operation may be refused."""
    statuses = set(operation.refusals)
    if operation.body is not None:
        statuses |= _OF_A_BODY
    if operation.credential is not None:
        statuses.add(401)
    if operation.asks_store:
        statuses.add(503)
    return sorted(statuses)


def _operation(operation: Operation) -> Schema:
    content: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": _security(operation),
        "responses": {
            **{
                str(status): _answer(kinds) | ({"links": _LINKS} if operation.gives_refresh_token else {})
                for status, kinds in operation.answers.items()
            },
            **{str(status): _refusal(*_REFUSALS[status]) for status in refusals(operation)},
        },
    }
    if operation.query:
        content["parameters"] = list(operation.query)
    if operation.body is not None:
        content["requestBody"] = {"required": operation.body_required, "content": _json(operation.body)}
    return content


def _security(operation: Operation) -> list[Schema]:
    if operation.credential is None:
        return []
    given: Schema = {operation.credential: []}
    return [given] if operation.credential_required else [{}, given]


def _choice(properties: Schema, fields: tuple[str, ...]) -> Schema:
    """An object with these fields; the others are left out, or null."""
    sent = {field: next(each for each in properties[field]["anyOf"] if each != _NULL) for field in fields}
    return {
        "type": "object",
        "properties": dict.fromkeys(properties, _NULL) | sent,
        "required": list(fields),
        "additionalProperties": False,
    }


def _answer(kinds: tuple[type[msgspec.Struct], ...]) -> Schema:
    return {"description": "Done", "content": _json(*kinds)} if kinds else {"description": "Done"}


def _refusal(kind: type[msgspec.Struct], description: str) -> Schema:
    media_type = PROBLEM_TYPE if kind is Problem else "application/json"
    return {"description": description, "content": {media_type: {"schema": _ref(kind)}}}


def _json(*kinds: type[msgspec.Struct]) -> Schema:
    refs = [_ref(kind) for kind in kinds]
    return {"application/json": {"schema": refs[0] if len(refs) == 1 else {"oneOf": refs}}}


_NULL: Final[Schema] = {"type": "null"}
_REF: Final = "#/components/schemas/{name}"


def _ref(kind: type[msgspec.Struct]) -> Schema:
    return {"$ref": _REF.format(name=kind.__name__)}
