"""Settings, from their model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from doorward.asgi.policies import PROFILES
from doorward.config import ENV_PREFIX, IssuerSettings, RouteSettings, Settings
from reference_pages.markdown import MADE, default_text, plain, table

ENVIRONMENT_NUMBERS = {
    "connect_seconds": "`caps.connect_seconds`",
    "read_seconds": "`caps.read_seconds`",
    "write_seconds": "`caps.write_seconds`",
    "pool_seconds": "`caps.pool_seconds`",
    "failures": "`breaker.failures`",
    "failure_window_seconds": "seconds within which these failures must lie",
    "max_open_seconds": "`breaker.max_open_seconds`",
}


def page() -> str:
    top = [name for name in Settings.model_fields if _section(Settings, name) is None]
    sections = "\n\n".join(
        _section_page(name, section)
        for name in Settings.model_fields
        if (section := _section(Settings, name)) is not None
    )
    return f"""{MADE}

# Settings

The first of these that names a key decides: arguments of `Settings(...)`, environment variables, `doorward.toml` (or
the file that `DOORWARD_CONFIG` names), the defaults below. A nested key takes two underscores in a variable:
`auth.url` is `{ENV_PREFIX}AUTH__URL`. An unknown key, or a value that cannot work, stops the start with a sentence that
names it. `doorward check-config` prints what holds, with secrets as `***`.

Lists are TOML arrays; in a variable, words with commas between them, or JSON.

{_rows(Settings, top)}

{sections}

## issuers

{_summary(IssuerSettings)} One `[[issuers]]` table each in
`doorward.toml`, or all as a JSON list in `{ENV_PREFIX}ISSUERS`. One key of an entry takes a variable with its name, a `-`
written as `_`: `service_secret` of `acme-eu` is `{ENV_PREFIX}ISSUERS__ACME_EU__SERVICE_SECRET`. See
[more than one issuer](../how-to/several-issuers.md).

{_rows(IssuerSettings, _own(IssuerSettings), "issuers.")}

## routes

{_summary(RouteSettings)} One `[[routes]]` table each in `doorward.toml`, or a JSON list in `{ENV_PREFIX}ROUTES`.

{_rows(RouteSettings, list(RouteSettings.model_fields), "routes.")}

## What differs between environments

Each holds only where the setting itself is not set. `environment` defaults to `production`.

{_profiles()}
"""


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    annotation = model.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _own(model: type[BaseModel]) -> list[str]:
    """The keys that it does not share with what it is made of; the name first."""
    base = model.__mro__[1]
    return [name for name in model.__annotations__ if name not in base.__annotations__ or name == "url"]


def _section_page(name: str, model: type[BaseModel]) -> str:
    """Its own keys, and then its sections."""
    inner = {each: _section(model, each) for each in model.model_fields}
    own = [each for each, section in inner.items() if section is None]
    text = f"{'##' if '.' not in name else '###'} {name}\n\n{_summary(model)}{_rows(model, own, f'{name}.')}"
    pages = (_section_page(f"{name}.{each}", section) for each, section in inner.items() if section is not None)
    return "\n\n".join([text, *pages])


def _summary(model: type[BaseModel]) -> str:
    """The docstring of a section, if it has one of its own."""
    text = vars(model).get("__doc__")
    if not text:
        return ""
    return " ".join(text.split()) + ("" if model in (IssuerSettings, RouteSettings) else "\n\n")


def _rows(model: type[BaseModel], names: Sequence[str], prefix: str = "") -> str:
    rows = ([f"`{prefix}{name}`", *_described(model.model_fields[name])] for name in names)
    return table(["key", "value", "default", "meaning"], rows)


def _described(field: FieldInfo) -> Sequence[str]:
    bounds = [
        f"{sign} {getattr(rule, name):g}" for rule in field.metadata for name, sign in _SIGNS if hasattr(rule, name)
    ]
    kind = ", ".join([_kind(field.annotation), *bounds])
    return [kind, "required" if field.is_required() else default_text(field.default), plain(field.description or "")]


_SIGNS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", SecretStr: "secret", Path: "path"}


def _kind(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        return ", ".join(_kind(member) for member in get_args(annotation) if member is not type(None))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return "list" if get_origin(annotation) is tuple else _KINDS[annotation]


def _profiles() -> str:
    names = [field.name for field in fields(next(iter(PROFILES.values())))]
    rows = (
        [ENVIRONMENT_NUMBERS[name], *(_number(getattr(profile, name)) for profile in PROFILES.values())]
        for name in names
    )
    return table(["", *(environment.value for environment in PROFILES)], rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
