"""`doorward check-config`: what is set, where it was read, and what it means."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.table import Table
from rich.text import Text

from doorward.adapters.private_files import distrust_dir
from doorward.adapters.transport import load_tls_context
from doorward.asgi.policies import breaker_policy, phase_caps, route_rules
from doorward.cli.agent import in_words, problem_of
from doorward.cli.output import AsJson, ConfigFile, console, print_json
from doorward.config import Environment, OneIssuer, Settings, Verify, file_in_use, variable_for, variable_of
from doorward.core.degrade import Mode
from doorward.errors import ConfigError

_DEGRADE = {
    Mode.LOCAL_JWT: (
        "local_jwt: in an outage a fresh JWT with a good signature gets in, and so does what was validated a short time before"
    ),
    Mode.CACHED_ONLY: "cached_only: in an outage only those get in whose token was validated a short time before",
    Mode.DENY: "deny: in an outage nobody new gets in",
}


class Program(StrEnum):
    SERVE = "serve"
    AUTHD = "authd"


@dataclass(frozen=True, slots=True)
class Setting:
    """`source`: where it was read; `None` for a default."""

    key: str
    value: str
    source: str | None


def check_config(
    config: ConfigFile = None,
    program: Annotated[
        Program,
        typer.Option("--for", help="Whose settings these are: what `serve` (and your own app) or `authd` needs."),
    ] = Program.SERVE,
    everything: Annotated[bool, typer.Option("--all", help="List the defaults too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the settings without starting anything, and say in words what they mean.

    Reads what `serve` would read: the TOML file and DOORWARD_* variables. Secrets print as `***`.

        doorward check-config
        DOORWARD_ENVIRONMENT=staging doorward check-config --all

    Exit codes: 0 they can work, warnings included; 2 they cannot.
    """
    file = file_in_use(config)
    settings = Settings.load(config)
    problems = [*_data_dir_problems(settings.data_dir), *(_problems(settings) if program is Program.SERVE else ())]
    warnings = list(_warnings(settings, program))
    listed = [setting for setting in _listed(settings, file) if everything or setting.source is not None]
    meaning = dict(_meaning(settings))
    if as_json:
        print_json(
            {
                "ok": not problems,
                "file": None if file is None else str(file),
                "settings": [asdict(setting) for setting in listed],
                "meaning": meaning,
                "effective": _effective(settings),
                "problems": problems,
                "warnings": warnings,
            }
        )
    else:
        _show(file, listed, meaning, problems, warnings)
    sys.exit(2 if problems else 0)


def _listed(settings: Settings, file: Path | None) -> Iterator[Setting]:
    for key, value, was_set in settings.described():
        variable = variable_of(key)
        yield Setting(key, value, variable or (str(file) if was_set and file is not None else None))


def _problems(settings: Settings) -> Iterator[str]:
    """What stops the door from starting."""
    for issuer in settings.each_issuer():
        yield from _problems_of(issuer)
    try:
        route_rules(settings)
    except ConfigError as error:
        yield str(error)
    if problem := problem_of(settings.chat):
        yield problem


def _problems_of(issuer: OneIssuer) -> Iterator[str]:
    auth, key = issuer.settings.auth, f"{issuer.section}.service_secret"
    if auth.url is None:
        yield "auth.url is not set: set DOORWARD_AUTH__URL, or url under auth in doorward.toml"
    if auth.lacks_secret and issuer.settings.verify is Verify.REMOTE:
        yield f"{key} is not set: set {variable_for(key)} (doorward authd init makes a pair)"
    if auth.ca_file is not None:
        try:
            load_tls_context(auth.ca_file, key=f"{issuer.section}.ca_file")
        except ConfigError as error:
            yield str(error)


def _meaning(settings: Settings) -> Iterator[tuple[str, str]]:
    caps, issuers = phase_caps(settings), settings.each_issuer()
    yield "environment", settings.environment.value
    yield (
        "answer",
        f"every handshake within {settings.deadline_seconds:g} s; within {settings.patience_seconds:g} s where the token is"
        " proven without the auth service",
    )
    yield from _issuers_in_words(issuers)
    yield (
        "phase caps",
        f"connect {caps.connect_seconds:g} s, read {caps.read_seconds:g} s, write {caps.write_seconds:g} s, pool"
        f" {caps.pool_seconds:g} s, each cut to what is left of the deadline",
    )
    for issuer in issuers:
        yield from _meaning_of(issuer.settings, f" of {issuer.name}" if len(issuers) > 1 else "")
    yield "origins", _origins_in_words(settings)
    yield "clients", _clients_in_words(settings)
    yield "chat", in_words(settings.chat)


def _issuers_in_words(issuers: Sequence[OneIssuer]) -> Iterator[tuple[str, str]]:
    """Whose tokens count, and as whom; nothing where there is only one."""
    if len(issuers) < 2:
        return
    for issuer in issuers:
        auth = issuer.settings.auth
        ids = f"{issuer.tenant}:<id>" if issuer.tenant is not None else "<id>"
        opaque = "; opaque tokens are its own too" if issuer.takes_opaque else ""
        yield f"issuer {issuer.name}", f"tokens with iss = {auth.expected_issuer}; its users are {ids}{opaque}"


def _meaning_of(settings: Settings, whose: str) -> Iterator[tuple[str, str]]:
    """Args: settings: as if there were only this issuer."""
    breaker, degrade = breaker_policy(settings), settings.degrade
    yield f"verify{whose}", _verify_in_words(settings)
    yield (
        f"breaker{whose}",
        f"opens after {breaker.failures} failures in a row, at {breaker.failure_rate:.0%} failures, or at {breaker.slow_rate:.0%}"
        f" calls over {breaker.slow_seconds:g} s; stays open {breaker.open_seconds:g} s, doubling up to"
        f" {breaker.max_open_seconds:g} s, or until two canaries come back",
    )
    yield f"degraded mode{whose}", _degraded_mode_in_words(settings)
    if degrade.mode is not Mode.DENY:
        yield (
            f"outage{whose}",
            f"after {degrade.max_outage_seconds / 60:g} min of outage nobody new gets in; a grant lasts"
            f" {degrade.grant_seconds / 60:g} min",
        )


def _degraded_mode_in_words(settings: Settings) -> str:
    mode = settings.degrade.mode
    if mode is not None:
        return _DEGRADE[mode]
    if settings.auth.revocations == "off":
        return f"not set, and there is no revocation feed: {_DEGRADE[Mode.CACHED_ONLY]}"
    return "not set: local_jwt once the auth service has a revocation feed, else cached_only"


def _verify_in_words(settings: Settings) -> str:
    if settings.verify is Verify.REMOTE:
        return (
            f"remote: the auth service is asked about each token, and again after {settings.cache.positive_seconds:g} s"
        )
    opaque = "; without auth.service_secret no other token counts" if settings.auth.lacks_secret else ""
    return (
        f"local: the auth service is never asked about a JWT; signature, claims and the revocation feed decide{opaque}"
    )


def _origins_in_words(settings: Settings) -> str:
    if not settings.allowed_origins:
        return "pages of the same origin only (allowed_origins is not set)"
    return f"pages of the same origin and of {', '.join(settings.allowed_origins)}"


def _clients_in_words(settings: Settings) -> str:
    rate = f"{settings.limits.address_rate_per_second:g} handshakes a second each"
    if not settings.trusted_proxies:
        return (
            f"told apart by the address of their connection, {rate}; behind a proxy that is one for all of them, so name it in"
            " trusted_proxies (not set)"
        )
    return f"told apart by what {', '.join(settings.trusted_proxies)} say in X-Forwarded-For, {rate}"


def _warnings(settings: Settings, program: Program) -> Iterator[str]:
    reason = distrust_dir(settings.data_dir) if settings.data_dir.is_dir() else None
    if reason is not None:
        yield f"data_dir: {reason}; until then what is kept there is not believed"
    if program is Program.AUTHD:
        return
    if settings.issuers and settings.auth.url is None:
        yield "auth.url is not set: [auth] is no issuer of this door, and nobody can be an admin here or sign in on the page"
    if settings.public:
        yield f"public: {', '.join(settings.public)} is not guarded at all; anybody may connect"
    for issuer in settings.each_issuer():
        yield from _warnings_of(issuer)
    if settings.e2e.enabled:
        yield "e2e.enabled is on: whoever holds the key of test tokens gets in during an outage; never where real users are"


def _warnings_of(issuer: OneIssuer) -> Iterator[str]:
    settings, auth, section = issuer.settings, issuer.settings.auth, issuer.section
    own = "" if issuer.tenant is None else f"{section}."
    if (
        auth.url is not None
        and urlsplit(auth.url).scheme == "http"
        and settings.environment is not Environment.PRODUCTION
    ):
        yield f"{section}.url is http: tokens and our credential travel in clear; production refuses that except on loopback"
    if settings.e2e.enabled and issuer.takes_test_tokens and settings.verify is Verify.LOCAL:
        yield f"e2e.enabled with {own}verify = local: the breaker never opens, so no test token ever counts"
    if settings.verify is Verify.LOCAL and auth.revocations == "off":
        yield f"{own}verify = local with {section}.revocations = off: a revoked token gets in until it expires"
    if settings.degrade.mode is Mode.LOCAL_JWT and auth.revocations == "off":
        yield f"{own}degrade.mode = local_jwt with {section}.revocations = off: in an outage a revoked token may get in"
    if not settings.breaker.canary:
        yield f"{own}breaker.canary is off: after an outage only requests that hold a fallback probe, so healing takes longer"
    if auth.typ is None and not auth.claims.required:
        yield (
            f"{section}.typ is not set: any JWT of the issuer counts, an ID token too; set at+jwt if its tokens say so"
            " (authd's do)"
        )


def _data_dir_problems(path: Path) -> Iterator[str]:
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not there.is_dir():
        yield f"data_dir: {path if there == path.absolute() else there} is not a directory"
    elif there != path.absolute() and not os.access(there, os.W_OK):
        yield f"data_dir: {path} is not there and cannot be made by this user"


def _effective(settings: Settings) -> dict[str, Any]:
    return {
        "environment": settings.environment.value,
        "caps": asdict(phase_caps(settings)),
        "issuers": {issuer.name: _effective_of(issuer) for issuer in settings.each_issuer()},
    }


def _effective_of(issuer: OneIssuer) -> dict[str, Any]:
    settings = issuer.settings
    return {
        "tenant": issuer.tenant,
        "opaque": issuer.takes_opaque,
        "verify": settings.verify.value,
        "degrade_mode": settings.degrade.mode.value if settings.degrade.mode is not None else None,
        "breaker": asdict(breaker_policy(settings)),
    }


def _show(
    file: Path | None,
    listed: Sequence[Setting],
    meaning: dict[str, str],
    problems: Sequence[str],
    warnings: Sequence[str],
) -> None:
    out = console()
    for problem in problems:
        out.print(Text(f"Cannot work: {problem}", style="bold red"), soft_wrap=True)
    if not problems:
        out.print(Text("The settings can work.", style="green"))
    out.print(f"File: {file or 'none'}", soft_wrap=True)
    if listed:
        out.print(
            _table(("setting", "value", "from"), [(one.key, one.value, one.source or "default") for one in listed])
        )
    else:
        out.print("Nothing is set; --all lists the defaults.")
    out.print(_table(("what it means", ""), list(meaning.items())))
    for warning in warnings:
        out.print(Text(f"Warning: {warning}", style="yellow"), soft_wrap=True)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
