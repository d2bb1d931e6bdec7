"""The way of asking that the settings choose: the contract, a service of another shape, or token introspection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from doorward.adapters.introspection import IntrospectionValidator
from doorward.adapters.service_credential import ServiceCredential
from doorward.adapters.transport import Caps, HttpTransport
from doorward.adapters.validate_http import HttpValidator, Manner
from doorward.config import AuthSettings
from doorward.core.answer import INTROSPECTION, Fields
from doorward.runtime.ports import Validator


def service_credential(auth: AuthSettings) -> ServiceCredential:
    """Our own; with an empty secret where none is set."""
    secret = auth.service_secret.get_secret_value() if auth.service_secret is not None else ""
    return ServiceCredential(auth.service_id, secret, auth.service_id_header, auth.service_secret_header)


def make_validator(
    auth: AuthSettings, transport: HttpTransport, caps: Caps, *, traceparent: Callable[[], str | None] | None = None
) -> Validator:
    url = auth.base_url + auth.validate_path
    credential = service_credential(auth) if auth.send_credential else None
    if auth.protocol == "introspection":
        return IntrospectionValidator(
            transport,
            url=url,
            issuer=auth.expected_issuer,
            audiences=frozenset(auth.audience),
            credential=credential,
            caps=caps,
            fields=replace(INTROSPECTION, **_named(auth)),
            traceparent=traceparent,
        )
    manner = Manner(
        auth.validate_method,
        auth.token_header,
        auth.token_cookie,
        Fields(**_named(auth)) if auth.fields.model_fields_set else None,
        frozenset(auth.invalid_statuses),
    )
    return HttpValidator(
        transport,
        url=url,
        audiences=auth.audience,
        audience_claim=auth.claims.audience,
        credential=credential,
        caps=caps,
        manner=manner,
        traceparent=traceparent,
    )


def _named(auth: AuthSettings) -> dict[str, str]:
    """The fields that the settings name."""
    return auth.fields.model_dump(include=auth.fields.model_fields_set)
