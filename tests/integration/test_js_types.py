"""The JavaScript client's types, by the TypeScript compiler: in a program that uses all of them, and in the one of the README."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.integration.test_js_client import CLIENT, NODE

SCRIPTS = Path(__file__).parents[1] / "js"
COMPILER = SCRIPTS / "node_modules" / "typescript" / "bin" / "tsc"
BOUND_SECONDS = 60
GIVEN = "declare const email: string, password: string;\n"
"""What the README's program takes from its page."""

pytestmark = pytest.mark.skipif(
    (NODE is None or not COMPILER.exists()) and not os.environ.get("CI"),
    reason="NOT RUN: it needs Node and the npm packages of tests/js (tools/install-node-packages)",
)


def faults(program: Path, *options: str) -> str:
    """What the compiler finds wrong, as strict as it can be."""
    assert NODE is not None
    strict = ("--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess")
    done = subprocess.run(
        [NODE, COMPILER, "--noEmit", *strict, "--target", "es2022", *options, program.name],
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=False,
    )
    return done.stdout + done.stderr + (f"exit {done.returncode}" if done.returncode else "")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has installed the client, as an ES module."""
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "doorward").symlink_to(CLIENT)
    return tmp_path


@pytest.mark.parametrize(
    "options", [("--module", "nodenext"), ("--module", "preserve")], ids=["as Node resolves", "as bundlers resolve"]
)
def test_a_program_that_uses_all_of_it_is_right_and_its_mistakes_are_found(
    project: Path, options: tuple[str, ...]
) -> None:
    program = project / "consumer.ts"
    program.write_text((SCRIPTS / program.name).read_text())
    assert faults(program, *options) == ""


def test_the_program_of_the_readme_is_right(project: Path) -> None:
    (code,) = re.findall(r"```js\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    program = project / "readme.ts"
    program.write_text(GIVEN + code)
    assert faults(program, "--module", "preserve") == ""
