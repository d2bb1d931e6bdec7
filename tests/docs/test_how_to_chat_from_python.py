"""The how-to "chat from Python, or from a terminal": the lines for scripts, typed into a pipe against a running chat."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chat_product import EMAIL, PASSWORD, paths, product
from tests.docs.pages import block
from tests.docs.typed import replaced, typed
from tests.integration.test_up import free_port

PAGE = "chat-from-python"
CHANGED_FILE = "git init -q . && echo 'a changed line' > file && git add -N file\n"
"""What `git diff` is to tell about."""


@pytest.mark.timeout(240)
async def test_the_lines_for_scripts(tmp_path: Path) -> None:
    (folder := tmp_path / "product").mkdir()
    (here := tmp_path / "here").mkdir()
    exports, token = block(PAGE, "sh", "CLIENT__EMAIL").splitlines()
    assert token.startswith("export DOORWARD_CLIENT__TOKEN=")
    exports = replaced(exports, {"ada@example.com": EMAIL, "PASSWORD=...": f"PASSWORD='{PASSWORD}'"})
    with product(folder, auth_port=free_port()) as running:
        async with paths(running) as ways:
            script = f"{CHANGED_FILE}{exports}\n{block(PAGE, 'sh', '--ask')}"
            said = await typed(script, cwd=here, settings={"client.url": ways.url})
    first, *middle, last = [line for line in said.splitlines() if line.strip()]
    assert first.strip() == "How is the auth service?"
    assert "+a changed line" in " ".join(middle)
    assert last.strip()
