"""The tutorial, typed in as it stands: its commands in one shell, and what it says that they print."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, Snippet, snippets

from doorward.config import child_environment
from doorward.drill.peers import free_port

PAGE = ROOT / "docs" / "tutorial" / "ten-minutes-to-a-door.md"
SECONDS = 100
PORTS = ("8000", "9000")
CLEAN_UP = "trap 'kill -CONT $AUTH; kill $CHAT $AUTH; wait' EXIT\n"
BOTH_ARE_UP = """for _ in $(seq 300); do
    if (: > /dev/tcp/127.0.0.1/8000 && : > /dev/tcp/127.0.0.1/9000) 2> /dev/null; then break; fi; sleep 0.2
done
"""
"""What a person sees by waiting five seconds; a busy machine takes longer."""


def test_what_the_tutorial_says_is_what_happens(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "ten_minutes", tmp_path / "examples" / "ten_minutes")
    ports = {port: str(free_port()) for port in PORTS}
    for file in (tmp_path / "examples" / "ten_minutes").iterdir():
        file.write_text(_with(ports, file.read_text()))
    blocks = [block for block in of_page("sh") if not block.text.startswith("pip install")]
    typed = "".join(block.text for block in blocks).replace("sleep 5\n", BOTH_ARE_UP, 1)
    script = "set -e\n" + CLEAN_UP + _with(ports, typed)
    environment = child_environment({}) | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert re.findall(r"^(?:hello|\d{3} ).*$", ran.stdout, re.MULTILINE) == [
        line for block in of_page("text") for line in block.text.splitlines()
    ], ran.stdout + ran.stderr


def of_page(language: str) -> list[Snippet]:
    return [snippet for snippet in snippets(language) if snippet.page == PAGE]


def _with(ports: dict[str, str], text: str) -> str:
    for shown, free in ports.items():
        text = text.replace(shown, free)
    return text
