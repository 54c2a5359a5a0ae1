from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from tests.cli.conftest import Ran, check_refused
from tokenrank.cli.output import MARK, OutFolder, check_folder, maker, source_in
from tokenrank.cli.results import check_table_format
from tokenrank.errors import InputError, MissingExtraError

Run = Callable[..., Ran]

ONE, OTHER = "0" * 16, "f" * 16


def test_folder_is_made_when_first_written_to(tmp_path: Path):
    folder = OutFolder(tmp_path / "a" / "b", {"x.txt": ONE})
    assert not (tmp_path / "a").exists()
    assert folder.write("x.txt", b"1").read_bytes() == b"1"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["x.txt"]


def test_results_of_the_same_source_are_replaced_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"... {maker(ONE)} ...")
    folder = OutFolder(tmp_path, {"a": ONE, "b": ONE, "new": OTHER})
    for name in ("a", "b", "new"):
        folder.write(name, b"")
    folder.told()
    folder.told()
    assert capsys.readouterr().err == "replaced 2 files of the same name\n"


def test_results_of_another_source_are_replaced_on_request_only(tmp_path: Path):
    (tmp_path / "a").write_text(maker(ONE))
    (tmp_path / "older").write_text(f"{MARK} 0.0.9")
    for name in ("a", "older"):
        with pytest.raises(InputError, match=f"{name}' is the result of another source; replace it with --overwrite"):
            OutFolder(tmp_path, {name: OTHER})
    folder = OutFolder(tmp_path, {"a": OTHER, "older": OTHER}, overwrite=True)
    assert folder.write("a", b"new").read_bytes() == b"new"


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_others_made_is_never_replaced(tmp_path: Path, overwrite: bool):
    (tmp_path / "theirs").write_text("tokenrank")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "ours").write_text(maker(ONE))
    (tmp_path / "link to ours").symlink_to(tmp_path / "ours")
    for name in ("theirs", "folder"):
        with pytest.raises(InputError, match=f"{name}' exists and was not made by tokenrank; move it"):
            OutFolder(tmp_path, {name: ONE}, overwrite)
    for name in ("link", "link to ours"):
        with pytest.raises(InputError, match=f"{name}' is a link, which is not followed; remove it"):
            OutFolder(tmp_path, {name: ONE}, overwrite)


def test_a_link_that_comes_later_is_not_followed(tmp_path: Path):
    (tmp_path / "theirs").write_text("mine")
    folder = OutFolder(tmp_path, {"a": ONE})
    (tmp_path / "a").symlink_to(tmp_path / "theirs")
    with pytest.raises(InputError, match="is a link"):
        folder.write("a", b"")
    assert (tmp_path / "theirs").read_text() == "mine"


def test_a_refusal_of_the_system_is_an_input_error(tmp_path: Path):
    folder = OutFolder(tmp_path / "out", {"a": ONE})
    (tmp_path / "out").write_text("came later")
    with pytest.raises(InputError, match=r"cannot write .*: .*; choose another folder with --out"):
        folder.write("a", b"")
    with pytest.raises(InputError, match="the name is too long; shorten"):
        OutFolder(tmp_path, {"x" * 5000: ONE})
    with pytest.raises(InputError, match="cannot write"):
        OutFolder(Path("nul\0l"), {"a": ONE}).write("a", b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="dangling' is a link to nothing"):
        OutFolder(tmp_path / "dangling", {"a": ONE})


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission in"):
        OutFolder(tmp_path / "out", {"a": ONE})


def test_a_permission_that_is_refused_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # what a system answers that is not run by root
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"no permission in .*; choose another folder with --out"):
        OutFolder(tmp_path / "out", {"a": ONE})


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path):
    folder = OutFolder(tmp_path, {"a": ONE})
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "full").touch()
    with pytest.raises(InputError):
        folder.write("a", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("form", ["png", "pdf", "svg"])
def test_every_file_names_its_source(run: Run, picture: Path, vit: Path, tmp_path: Path, form: str):
    pytest.importorskip("pyarrow")
    for table in ("json", "parquet"):
        ran = run("image", picture, "--model", vit, "--out", tmp_path, "--formats", form, "--table", table)
        assert ran.code == 0, ran.stderr
    ran = run("saliency", picture, "--model", vit, "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    marks = {path.name: source_in(path) for path in tmp_path.iterdir()}
    assert len(marks) == 2 + 3 + 3
    assert len(set(marks.values())) == 1, marks
    assert len(marks.popitem()[1] or "") == 16


def test_another_picture_of_the_same_name(run: Run, picture: Path, vit: Path, tmp_path: Path):
    out = ["--model", vit, "--out", tmp_path / "out", "--formats", "mask"]
    first = run("saliency", picture, *out)
    assert first.code == 0, first.stderr
    other = tmp_path / "noise.png"
    PIL.Image.open(picture).rotate(180).save(other)
    check_refused(run("saliency", other, *out), "is the result of another source; replace it with --overwrite")
    assert run("segment", other, *out).code == 0  # other results, other names
    again = run("saliency", other, *out, "--overwrite")
    assert again.code == 0
    assert "replaced 1 file of the same name" in again.stderr.splitlines()


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    check_table_format("json")
    # None in sys.modules is how Python itself marks a module that cannot be imported
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[evaluate\]'"):
        check_table_format("parquet")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that says it can be written and cannot")
def test_a_folder_that_takes_no_file_is_told_before_any_work(tmp_path: Path):
    with pytest.raises(InputError, match="cannot write '/proc/tokenrank'"):
        check_folder(Path("/proc/tokenrank"))
    check_folder(tmp_path / "a" / "b")
    assert not [*tmp_path.iterdir()], "nothing is left behind"
