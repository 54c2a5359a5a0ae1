"""Whole files: all of the new content or all of the old, and nothing beside it."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tokenrank as tr
from tokenrank import TokenLayout, TokenMap
from tokenrank.errors import InputError
from tokenrank.writing import UNFINISHED, remove_unfinished, save_whole, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"new", lambda path: path.write_bytes(b"new")])
def test_bytes_and_functions_replace_an_older_file(content, tmp_path):
    target = tmp_path / "file"
    for _ in range(2):
        write_whole(target, content)
        assert target.read_bytes() == (content if isinstance(content, bytes) else b"new")
    assert names(tmp_path) == ["file"]


def test_a_function_may_make_the_file_anew(tmp_path):
    def write(path: Path) -> None:
        path.unlink()
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(descriptor, b"new")
        os.close(descriptor)

    write_whole(tmp_path / "file", write)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len({stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}) == 1


def test_a_link_is_refused_or_followed_where_it_is_asked_for(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError, match="it is a link, which is not followed"):
        write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "real").read_bytes() == b"old"
    write_whole(str(tmp_path / "link"), b"new", follow=True)
    save_whole(tmp_path / "link", b"newer")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"newer"
    assert names(tmp_path) == ["link", "real"]


def test_links_under_the_names_of_unfinished_files_are_never_written_through(tmp_path, monkeypatch):
    """Someone knows the random name and puts a link there: before the file is made, or while it is written."""
    (tmp_path / "theirs").write_bytes(b"theirs")
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0" * 2 * count)
    unfinished = tmp_path / f".file.{'0' * 16}{UNFINISHED}"
    unfinished.symlink_to("theirs")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "file", b"new")
    assert unfinished.is_symlink()
    unfinished.unlink()
    make = os.open

    def swapped(path, *arguments):
        descriptor = make(path, *arguments)
        if Path(path) == unfinished:
            unfinished.unlink()
            unfinished.symlink_to("theirs")
        return descriptor

    monkeypatch.setattr(os, "open", swapped)
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_what_is_not_ours_is_not_removed(tmp_path):
    ours = tmp_path / f".part.parquet.{'0a' * 8}{UNFINISHED}"
    theirs = [tmp_path / name for name in (f".notes{UNFINISHED}", f"notes.{'0a' * 8}{UNFINISHED}", "x.unfinished")]
    for path in (ours, *theirs):
        path.write_bytes(b"")
    (tmp_path / f".folder.{'0b' * 8}{UNFINISHED}").mkdir()
    (tmp_path / f".link.{'0c' * 8}{UNFINISHED}").symlink_to(theirs[0])
    remove_unfinished(tmp_path)
    assert not ours.exists()
    assert len(names(tmp_path)) == 5


def savers() -> dict[str, Callable[[Path], object]]:
    ranked = TokenMap(torch.arange(4.0) / 6, TokenLayout({"image": 4}, {"image": (2, 2)}))
    labels = np.eye(4, dtype=np.int64)
    segmentation = tr.tasks.Segmentation(labels, ("background", "object"))

    def trace(path: Path) -> None:
        tr.from_attentions((torch.full((1, 2, 4, 4), 0.25),)).save(path)

    return {
        "map.npy": ranked.save,
        "map.png": ranked.save,
        "map.svg": ranked.save,
        "labels.png": segmentation.save,
        "labels.json": segmentation.save,
        "figure.png": lambda path: tr.view.save(ranked.figure(), path.with_suffix("")),
        "trace.safetensors": trace,
    }


@pytest.mark.parametrize(
    "name",
    ["map.npy", "map.png", "map.svg", "labels.png", "labels.json", "figure.png", "trace.safetensors"],
)
def test_whatever_is_saved_is_whole_and_a_full_disk_leaves_the_old_file_and_a_sentence(name, tmp_path, monkeypatch):
    saved, path = savers()[name], tmp_path / name
    saved(path)
    whole = path.read_bytes()
    path.write_bytes(b"old")
    (tmp_path / "link").mkdir()
    link = tmp_path / "link" / name
    link.symlink_to(path)
    saved(link)
    assert link.is_symlink()
    assert len(path.read_bytes()) == len(whole)
    path.write_bytes(b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=r"cannot (write|save) .*No space left on device"):
        saved(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == sorted([name, "link"])
    with pytest.raises(InputError, match="make it first"):
        saved(tmp_path / "missing" / name)


def test_a_short_write_is_gone_on_with(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))
    write_whole(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_a_name_as_long_as_names_may_be(tmp_path):
    for name in ("a" * 255, "é" * 127, "\U0001f600" * 63):
        write_whole(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("mine"), KeyboardInterrupt()])
def test_what_fails_leaves_the_older_file_and_nothing_else(error, tmp_path):
    (tmp_path / "file").write_bytes(b"old")

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        write_whole(tmp_path / "file", fail)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_folders_that_are_missing_or_in_the_way(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        write_whole(tmp_path / "missing" / "file", b"new")
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path, b"new")
    assert names(tmp_path) == []


def test_a_killed_process_leaves_the_older_file(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    script = (
        "import os, signal, sys; from tokenrank.writing import write_whole\n"
        "write_whole(sys.argv[1], lambda path: (path.write_bytes(b'half'), os.kill(os.getpid(), signal.SIGKILL)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"old"
    assert any(name.endswith(UNFINISHED) for name in names(tmp_path))
    remove_unfinished(tmp_path)
    assert names(tmp_path) == ["file"]


def test_writing_waits_for_no_pytorch():
    script = "import sys, tokenrank.writing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
