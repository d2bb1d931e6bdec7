"""What `doorward` exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import doorward


@pytest.mark.parametrize("name", doorward.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(doorward, name)
    assert found.__name__ == name
    assert getattr(doorward, name) is found
    assert name in dir(doorward)


def test_all_and_the_homes_are_the_same_names() -> None:
    assert sorted(doorward._HOMES) == sorted(doorward.__all__)


def test_another_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'doorward' has no attribute 'Dorward'"):
        _ = doorward.Dorward


def test_importing_it_imports_nothing_of_the_door() -> None:
    code = "import sys, doorward; print(*sorted(name for name in sys.modules if name.startswith('doorward')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["doorward"]
