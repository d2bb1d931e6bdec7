"""The files of a drill are known to be writable before it begins, and their content is never lost at its end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from doorward.cli.evidence import check_writable, keep
from doorward.errors import UsageError


def test_a_path_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.html"
    old.write_text("what was there")

    check_writable(old, new, None)

    assert old.read_text() == "what was there"
    assert not new.exists()


@pytest.mark.parametrize("name", ["missing/drill.json", ".", "file/drill.json"])
def test_a_path_that_cannot_be_written_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError) as refused:
        check_writable(tmp_path / name)

    assert str(tmp_path / name) in str(refused.value)
    assert "nothing was played" in str(refused.value)


def test_one_file_cannot_hold_both(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="named twice"):
        check_writable(tmp_path / "drill", tmp_path / "drill")


def test_what_is_no_regular_file_may_be_written_to() -> None:
    check_writable(Path("/dev/null"))
    keep({Path("/dev/null"): lambda: b"gone"})


def test_what_cannot_go_where_it_should_is_kept_elsewhere_and_the_rest_is_written(tmp_path: Path) -> None:
    gone, there = tmp_path / "gone" / "drill.json", tmp_path / "drill.html"

    with pytest.raises(UsageError) as told:
        keep({gone: lambda: b"the evidence", there: lambda: b"<p>"})

    assert there.read_bytes() == b"<p>"
    kept = re.search(r"it is kept in (\S+)", str(told.value))
    assert kept is not None
    assert Path(kept[1]).read_bytes() == b"the evidence"
    Path(kept[1]).unlink()


def test_the_first_file_is_written_before_the_second_is_made(tmp_path: Path) -> None:
    def fails() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keep({tmp_path / "drill.json": lambda: b"{}", tmp_path / "drill.html": fails})

    assert (tmp_path / "drill.json").read_bytes() == b"{}"
