from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tokenrank.cli.options import TableFormat
from tokenrank.cli.output import MAKER, OutFolder, check_table_format
from tokenrank.errors import InputError, MissingExtraError


def test_folder_is_made_when_first_written_to(tmp_path: Path):
    folder = OutFolder(tmp_path / "a" / "b", ["x.txt"])
    assert not (tmp_path / "a").exists()
    assert folder.write("x.txt", b"1").read_bytes() == b"1"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["x.txt"]


def test_only_marked_files_are_replaced(tmp_path: Path):
    (tmp_path / "ours").write_text(f"... {MAKER} ...")
    (tmp_path / "theirs").write_text("tokenrank")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    OutFolder(tmp_path, ["ours", "new"])
    for name in ("theirs", "folder", "link"):
        with pytest.raises(InputError, match=f"{name}' exists and was not made by tokenrank"):
            OutFolder(tmp_path, ["ours", name])


def test_a_refusal_of_the_system_is_an_input_error(tmp_path: Path):
    folder = OutFolder(tmp_path / "out", ["a"])
    (tmp_path / "out").write_text("came later")
    with pytest.raises(InputError, match=r"cannot write .*: .*; choose another folder with --out"):
        folder.write("a", b"")
    with pytest.raises(InputError, match="cannot write"):
        OutFolder(tmp_path / ("x" * 5000), ["a"])
    with pytest.raises(InputError, match="cannot write"):
        OutFolder(Path("nul\0l"), ["a"]).write("a", b"")


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path):
    folder = OutFolder(tmp_path, ["a"])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "full").touch()
    with pytest.raises(InputError):
        folder.write("a", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    check_table_format(TableFormat.json)
    # None in sys.modules is how Python itself marks a module that cannot be imported
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[evaluate\]'"):
        check_table_format(TableFormat.parquet)
