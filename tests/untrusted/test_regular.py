"""Pipes, devices, sockets and folders are refused at once, by every reader, with the cure."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tokenrank as tr
from tokenrank.cli import app
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets import open_dataset
from tokenrank.evaluate.datasets.bsds500 import read_regions
from tokenrank.evaluate.datasets.folder import read_keys
from tokenrank.evaluate.datasets.masks import read_labels, read_mask
from tokenrank.models import read_image, read_sound
from tokenrank.models.images import upright_size
from tokenrank.untrusted import open_regular, read_text
from tokenrank.untrusted.regular import occupied

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """No test here may wait: a pipe that is opened ends it."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waited for a pipe"))
    signal.setitimer(signal.ITIMER_REAL, 120)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "device", "socket", "folder"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    path = tmp_path / "a"
    if request.param == "pipe":
        os.mkfifo(path)
        yield path, "a named pipe"
    elif request.param == "device":
        path.symlink_to("/dev/zero")
        yield path, "a device"
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))  # the whole path may be longer than a socket's can be
            yield path, "a socket"
    else:
        path.mkdir()
        yield path, "is a folder"


READERS: dict[str, Callable[[Path], Any]] = {
    "picture": read_image,
    "size": upright_size,
    "mask": read_mask,
    "labels": read_labels,
    "regions": read_regions,
    "keys": read_keys,
    "text": read_text,
    "trace": tr.load_trace,
    "sound": read_sound,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_refuses_it(reader, irregular):
    path, kind = irregular
    with pytest.raises(InputError) as error:
        READERS[reader](path)
    message = str(error.value)
    assert kind in message
    assert message.count("\n") == 0
    if kind != "is a folder":
        assert "write what it gives into a file first" in message


@pytest.mark.parametrize("call", [tr.observe, tr.tasks.saliency, tr.analyze, lambda path: tr.observe(str(path))])
def test_it_is_refused_before_a_model_is_loaded(call, irregular, monkeypatch):
    path, kind = irregular
    if kind == "is a folder":
        pytest.skip("a text may be called like a folder, and the model says which it reads")
    module = importlib.import_module("tokenrank.reading.observe")
    monkeypatch.setattr(module, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=kind):
        call(path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("parquet", "val.parquet"),
        ("imagenet-segmentation", "gtsegs_ijcv.mat"),
        ("voc2012", "ImageSets/Segmentation/val.txt"),
    ],
)
def test_a_data_set_whose_file_is_a_pipe(name, file, tmp_path):
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    os.mkfifo(tmp_path / file)
    with pytest.raises(InputError):
        open_dataset(name, tmp_path)


def test_class_names_in_a_pipe_are_not_waited_for(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.table({"image": [b"x"], "label": [0]}), tmp_path / "val.parquet")
    os.mkfifo(tmp_path / "classes.txt")
    with pytest.raises(InputError, match=r"classes.txt.*is not a regular file but a named pipe"):
        open_dataset("parquet", tmp_path)


def test_a_model_folder_with_a_pipe_in_it(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"'model.safetensors' in model folder .* a named pipe"):
        tr.load(tmp_path)


def test_a_run_whose_record_is_a_pipe(tmp_path):
    from tokenrank.evaluate.runner.folder import RECORD, read_record

    os.mkfifo(tmp_path / RECORD)
    with pytest.raises(InputError, match="a named pipe"):
        read_record(tmp_path)


def test_a_pipe_where_a_result_goes_is_not_ours(tmp_path):
    from tokenrank.cli.output import source_in

    os.mkfifo(tmp_path / "a.png")
    assert source_in(tmp_path / "a.png") is None


@pytest.mark.parametrize("command", ["image", "segment"])
def test_a_command_refuses_it(command, irregular, tmp_path):
    path, kind = irregular
    done = CliRunner().invoke(app, [command, str(path), "--out", str(tmp_path / "out")])
    assert done.exit_code != 0
    text = " ".join(done.output.split())
    assert kind.removeprefix("is ") in text or "folder" in text
    assert "Traceback" not in text


def test_a_pipe_that_takes_the_file_s_place_is_not_waited_for(tmp_path, monkeypatch):
    """Between looking and opening: the open file is looked at again."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    seen = (tmp_path / "file").stat()
    monkeypatch.setattr(Path, "stat", lambda self, **_: seen)
    with pytest.raises(InputError, match="a named pipe"):
        open_regular(tmp_path / "pipe")


def test_a_link_to_a_file_is_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    assert read_keys(tmp_path / "link") == ["one", "two"]


def test_holes_are_not_on_the_disk(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(10_000_000)
    assert occupied((tmp_path / "a").stat()) < 1_000_000


def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt").chmod(0)
    if os.access(tmp_path / "a.txt", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match="Permission denied"):
        read_text(tmp_path / "a.txt")
    (tmp_path / "a.txt").chmod(stat.S_IRWXU)
