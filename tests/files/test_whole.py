"""Whole files: all of the new content or all of the old, and nothing beside it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tokenrank.files.whole import UNFINISHED, remove_unfinished, write_whole


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


def test_links_stay_links(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_whole(str(tmp_path / "link"), b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert names(tmp_path) == ["link", "real"]


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
        "import os, signal, sys; from tokenrank.files.whole import write_whole\n"
        "write_whole(sys.argv[1], lambda path: (path.write_bytes(b'half'), os.kill(os.getpid(), signal.SIGKILL)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"old"
    assert any(name.endswith(UNFINISHED) for name in names(tmp_path))
    remove_unfinished(tmp_path)
    assert names(tmp_path) == ["file"]


def test_writing_waits_for_no_pytorch():
    script = "import sys, tokenrank.files.whole; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
