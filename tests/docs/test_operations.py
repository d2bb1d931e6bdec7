"""Log lines, files, causes and steps: the pages name what is in the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import structlog
from tests.docs.pages import PAGES, ROOT, name_of, read, rows, words

from doorward import Settings, errors
from doorward.adapters import e2e_key, node_store
from doorward.adapters.state_files import DirectoryStateFiles
from doorward.asgi.door import log_decision
from doorward.authd import key_files
from doorward.authd.store import database_url
from doorward.chat import database as chat_database
from doorward.cli.chat import entrance
from doorward.core.verdict import Cause, Code
from doorward.errors import BackendError
from doorward.ops import token as ops_token
from doorward.runtime import inquiry
from doorward.runtime.insight import DecisionRecord

LOG_PAGE = "docs/reference/log-lines.md"
NO_SETTINGS = {
    "auth.refresh",
    "auth.error",
    "auth.assurance",
    "auth.expiring",
    "auth.grace",
    "authd.log",
    "chat.log",
    "client.py",
    "e2e.key",
    "chat.agent_failed",
    "chat.event_not_read_back",
    "chat.run_not_recovered",
    "chat.drill",
}
"""Words of the protocol and of the log, and files, that look like settings."""

SOURCES = sorted((ROOT / "src" / "doorward").rglob("*.py"))


def section(page: str, heading: str) -> str:
    """The text from a heading to the next one of the same or a higher rank."""
    text = read(page)
    match = re.search(rf"^(#+) {re.escape(heading)}$\n(?P<text>.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, heading
    return match["text"]


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the tables in one section."""
    inside = section(page, heading)
    return [cells for cells in rows(page) if f"| {cells[0]} |" in inside]


def record() -> DecisionRecord:
    steps = {"open": 0.0}
    return DecisionRecord(
        "id", 0.0, "/ws", "127.0.0.1", "allow", "remote", "live", None, "live", False, False, "ada", "f", "", 1.0, 0.0, steps
    )  # fmt: skip


def literal_calls(*names: str) -> set[str]:
    """Every text that stands first in a call of one of these methods."""
    found: set[object] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names:
                found.update(one.value for one in node.args[:1] if isinstance(one, ast.Constant))
    return {text for text in found if isinstance(text, str)}


def test_the_fields_of_a_decision() -> None:
    with structlog.testing.capture_logs() as lines:
        log_decision(record())
    fields = {cells[0].strip("`") for cells in table(LOG_PAGE, "`decision`") if len(cells) == 2}
    steps = literal_calls("mark")
    assert fields == (set(lines[0]) - {"event", "log_level"}) | steps


def test_every_event_that_is_described_exists() -> None:
    described = {words(cells[0])[0] for cells in rows(LOG_PAGE) if len(cells) == 3}
    assert described
    assert described <= literal_calls("debug", "info", "warning", "error", "critical", "exception", "emit")


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_symptom_and_a_mend(cause: Cause) -> None:
    text = section("docs/operations/symptoms.md", f"`{cause.value}`")
    assert "**Cause.**" in text
    assert "**Mend.**" in text


@pytest.mark.parametrize(
    "code", [Code.OVERLOADED, Code.RATE_LIMITED, Code.RESTARTING, Code.INTERNAL, Code.ORIGIN_DENIED]
)
def test_codes_without_a_cause_have_a_symptom_too(code: Code) -> None:
    assert "**Cause.**" in section("docs/operations/symptoms.md", f"`{code.value}`")


def test_the_cause_of_each_error_is_the_one_on_the_page() -> None:
    for cells in rows("docs/reference/errors.md"):
        name = cells[0].strip("`")
        if len(cells) == 4 and name not in {"StoreError", "Throttled"}:
            error = _made(name)
            unanswered = inquiry.classified(error)
            assert cells[2] == f"`{unanswered.cause}`", name
            assert unanswered.code is Code.SERVICE_UNAVAILABLE


def test_files_have_the_names_on_the_page(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    keyset = DirectoryStateFiles(tmp_path, issuer="https://a", keyset_url="https://a/keys").path
    real = {
        node_store.FILE_NAME,
        e2e_key.FILE_NAME,
        ops_token.KEY_FILE,
        re.sub(r"-\w+\.json", "-*.json", keyset.name),
        Path(database_url(settings).database or "").relative_to(tmp_path).as_posix(),
        f"authd/keys/*{key_files.SUFFIX}",
        entrance.FILE_NAME.format(server="*"),
        chat_database.FILE_NAME,
        chat_database.FILE_NAME + chat_database.MARK_SUFFIX,
        chat_database.FILE_NAME + chat_database.LOCK_SUFFIX,
    }
    named = {cells[0].strip("`") for cells in rows("docs/reference/files.md")}
    assert real <= named
    up = (ROOT / "src/doorward/cli/up.py").read_text(encoding="utf-8")
    assert all(f'"{name}"' in up for name in named - real)


def test_bounds_are_the_defaults() -> None:
    defaults = {key: value for key, value, _ in Settings().described()}
    bounds = [cells for page in ("capacity", "restart-and-drain") for cells in _all_rows(f"docs/operations/{page}.md")]
    checked = [(key, cells) for cells in bounds for key in words(cells[-1]) if len(cells) == 4 and key in defaults]
    assert len(checked) > 10
    for key, cells in checked:
        assert f"{float(defaults[key]):,.0f}" in cells[1], key


def test_settings_that_are_named_exist() -> None:
    known = [key for key, _, _ in Settings().described()]
    known += {key.rpartition(".")[0] for key in known}
    sections = {key.partition(".")[0] for key in known if "." in key}
    for page in PAGES:
        for word in re.findall(r"`([a-z]+\.[a-z_]+)(?: = [^`]*)?`", page.read_text(encoding="utf-8")):
            assert word in {*known, *NO_SETTINGS} or word.partition(".")[0] not in sections, (name_of(page), word)


def _all_rows(page: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in read(page).splitlines() if line[:1] == "|"
    ]


def _made(name: str) -> BackendError:
    kind = getattr(errors, name)
    error: BackendError = kind(500) if name == "BadStatus" else kind("made up")
    return error
