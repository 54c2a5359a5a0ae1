from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow
import pytest
import torch
from pyarrow import parquet

from tests.evaluate.runs import METHODS, Brightness, Pictures, method, model, run_pictures, same
from tokenrank.errors import InputError, MissingExtraError
from tokenrank.evaluate.clock import FORWARD, spent_on
from tokenrank.evaluate.datasets.sample import Sample
from tokenrank.evaluate.runner import Run, image_seed, parts, run
from tokenrank.evaluate.runner.folder import FORMAT, read_record, write_record
from tokenrank.evaluate.runner.settings import contents_of, shown_name, weights_digest
from tokenrank.progress import listening
from tokenrank.untrusted import read_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_row_an_image_and_method_in_order(tmp_path: Path):
    done = run_pictures(tmp_path / "new" / "run", limit=None)
    rows = done.rows()
    assert list(rows.columns) == ["key", "method", "score", "pixels", "curve", "counts", "whole"]
    keys, methods = Pictures().keys, [m.name for m in METHODS]
    assert list(zip(rows["key"], rows["method"], strict=True)) == [(k, m) for k in keys for m in methods]
    assert rows["pixels"].eq(4).all()
    assert rows["curve"][0].shape == (3,)
    assert list(rows["counts"][4]) == [1, 20]
    assert rows["whole"].dtype == float
    assert rows["whole"][1] == 1
    assert done.complete
    assert len(done.failures) == 0
    assert done.keys == keys
    assert done.problems == {"lost": "has no mask"}
    assert names(done.folder) == ["parts", "run.json", "run.lock"]
    assert [name[:11] for name in names(done.folder / "parts")] == [f"part-{i:06}" for i in range(3)]


def test_rows_do_not_depend_on_the_batches(tmp_path: Path):
    whole = run_pictures(tmp_path / "a", batch=12)
    assert same(whole, run_pictures(tmp_path / "b", batch=1))
    assert same(whole, run_pictures(tmp_path / "c", batch=100))
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    assert same(whole, run_pictures(tmp_path / "d", batch=7))
    assert not same(whole, run_pictures(tmp_path / "e", seed=1))


def test_random_numbers_of_the_caller_go_on_as_if_nothing_ran(tmp_path: Path):
    def drawn() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    first = drawn()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    ready = model()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    run_pictures(tmp_path, model=ready)
    assert drawn() == first


def test_seeds_of_images_differ_and_stay():
    seeds = {image_seed(seed, key) for seed in range(3) for key in ("a", "b", "0a", "", "caf\udce9")}
    assert len(seeds) == 15
    assert all(0 <= seed < 2**31 for seed in seeds)
    # a change of these would change published rows
    assert image_seed(0, "image 00") == 1601654588


def test_an_interrupted_run_goes_on_and_reads_nothing_twice(tmp_path: Path):
    def interrupt(key: str) -> None:
        if key == "image 07":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pictures(tmp_path / "a", protocol=Brightness(before=interrupt), batch=3)
    kept = Run(tmp_path / "a")
    assert not kept.complete
    assert kept.rows()["key"].nunique() == 6
    rest = Pictures()
    counts: list[tuple[str, int, int | None]] = []
    with listening(lambda *told: counts.append(told)):
        finished = run_pictures(tmp_path / "a", rest, batch=3)
    assert rest.reads == list(rest.keys[6:])
    assert counts == [("images done, 0 failed", n, 12) for n in (6, 9, 12)]
    assert finished.complete
    assert same(finished, run_pictures(tmp_path / "b"))
    again = Pictures()
    assert same(run_pictures(tmp_path / "a", again), finished)
    assert again.reads == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_killed_run_loses_and_repeats_nothing():
    """The short form of benchmarks/robustness/runs.py: at random moments and inside the writing of a file; in a process
    of its own, which is forked."""
    script = (
        "import json\nfrom benchmarks.robustness.killed import WAYS, campaign\n"
        "print(json.dumps([campaign(way, 4) for way in WAYS]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=120, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    ways = json.loads(ran.stdout)
    assert len(ways) == 2
    for counts in ways:
        assert counts["kills"] >= 4
        assert {name: counts[name] for name in ("lost", "doubled", "changed", "left")} == {
            "lost": 0, "doubled": 0, "changed": 0, "left": 0
        }  # fmt: skip


def test_images_that_fail_are_rows_of_failures_and_done(tmp_path: Path):
    broken = {"image 03": "cannot read 'image 03.jpg': truncated\nsecond line", "image 11": "is empty"}
    counts: list[tuple[str, int, int | None]] = []
    with listening(lambda *told: counts.append(told)):
        done = run_pictures(tmp_path, Pictures(broken=broken))
    assert counts[-1] == ("images done, 2 failed", 12, 12)
    assert done.complete
    assert done.failures.to_dict("list") == {
        "key": ["image 03", "image 11"],
        "error": ["InputError: cannot read 'image 03.jpg': truncated", "InputError: is empty"],
    }
    assert done.rows()["key"].nunique() == 10
    assert {"failures-000000", "failures-000002"} <= {name[:15] for name in names(tmp_path / "parts")}
    again = Pictures(broken=broken)
    assert len(run_pictures(tmp_path, again).failures) == 2
    assert again.reads == []
    mended = Pictures(broken={"image 11": "is still empty"})
    retried = run_pictures(tmp_path, mended, retry=True)
    assert mended.reads == ["image 03", "image 11"]
    assert retried.failures.to_dict("records") == [{"key": "image 11", "error": "InputError: is still empty"}]
    assert retried.rows()["key"].nunique() == 11


def test_settings_that_fail_every_image_end_the_run_early(tmp_path: Path):
    def fail(key: str) -> None:
        raise ValueError(f"no layer 99, {key}")

    pictures = Pictures(60)
    with pytest.raises(InputError, match="the first 20 images all failed, the last with: ValueError: no layer 99"):
        run_pictures(tmp_path, pictures, Brightness(before=fail))
    assert len(pictures.reads) == 20
    with pytest.raises(InputError, match="has no rows: all 20 images failed, 'image 00' with: ValueError"):
        Run(tmp_path).rows()
    assert len(run_pictures(tmp_path, Pictures(60), retry=True).failures) == 0


def test_a_missing_library_is_no_failure_of_an_image(tmp_path: Path):
    def fail(key: str) -> None:
        raise MissingExtraError("install it")

    with pytest.raises(MissingExtraError, match="install it"):
        run_pictures(tmp_path, protocol=Brightness(before=fail))
    assert run_pictures(tmp_path).complete


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 3}, "seed was 0, now 3"),
        ({"protocol": Brightness(scale=2.0)}, "protocol.scale was 1.0, now 2.0"),
        ({"model": model(seed=5)}, "model.digest was "),
        ({"model": model(name="other")}, 'model.name was "tiny", now "other"'),
        ({"methods": METHODS[:2]}, 'methods was ["tokenrank:layer=3", "rollout", "raw"], now ["tokenrank'),
        ({"dataset": Pictures(13)}, "dataset.images was 12, now 13; dataset.digest was "),
        ({"limit": 4, "half": 1}, "limit was null, now 4; half was null, now 1; images.number was 12, now 4"),
    ],
)
def test_other_settings_are_refused_by_name_with_both_values(tmp_path: Path, options: dict[str, Any], words: str):
    before = run_pictures(tmp_path)
    with pytest.raises(InputError) as caught:
        run_pictures(tmp_path, **options)
    assert words in str(caught.value)
    assert "choose another folder" in str(caught.value)
    assert same(before, run_pictures(tmp_path))


def test_other_versions_are_refused_unless_allowed_and_recorded(tmp_path: Path):
    whole = run_pictures(tmp_path, limit=3)
    record = read_record(tmp_path)
    record["runs"][0]["versions"]["torch"] = "1.0"
    write_record(tmp_path, record)
    with pytest.raises(InputError, match=rf"torch was 1\.0, now {re.escape(torch.__version__)}; .*allow others"):
        run_pictures(tmp_path, limit=3)
    again = run_pictures(tmp_path, limit=3, batch=2, other_versions=True)
    assert [start["versions"]["torch"] for start in again.starts] == ["1.0", torch.__version__]
    assert [start["batch"] for start in again.starts] == [5, 2]
    assert {"processor", "cores", "system"} <= set(again.starts[1]["hardware"])
    assert same(run_pictures(tmp_path, limit=3), whole)  # those of the last start


class Files(Pictures):
    """Pictures in files: the grey of each is the first byte of its file."""

    def __init__(self, folder: Path, count: int = 12) -> None:
        super().__init__(count)
        self.folder = folder
        if not folder.exists():
            folder.mkdir(parents=True)
            for place, key in enumerate(self.keys):
                self.files(key)[0].write_bytes(bytes([20 * place % 256]))

    def files(self, key: str) -> tuple[Path, ...]:
        return (self.folder / key,)

    def read(self, key: str) -> Sample:
        grey = read_bytes(self.files(key)[0])[0]
        return dataclasses.replace(super().read(key), image=PIL.Image.new("RGB", (2, 2), (grey,) * 3))


def test_pictures_that_changed_between_two_pieces_are_refused_by_name(tmp_path: Path):
    def interrupt(key: str) -> None:
        if key == "image 07":
            raise KeyboardInterrupt

    pictures = Files(tmp_path / "pictures")
    with pytest.raises(KeyboardInterrupt):
        run_pictures(tmp_path / "run", pictures, Brightness(before=interrupt))
    file = pictures.folder / "image 02"
    state, old = file.stat(), file.read_bytes()
    file.write_bytes(bytes([old[0] ^ 1]))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    with pytest.raises(InputError, match=r"the files of 1 of 12 images have changed since .*: 'image 02'; restore"):
        run_pictures(tmp_path / "run", pictures)
    file.write_bytes(old)
    assert same(run_pictures(tmp_path / "run", pictures), run_pictures(tmp_path / "whole", pictures))
    file.unlink()
    with pytest.raises(InputError, match=r"the files of 1 of 12 images have changed since .*: 'image 02'"):
        run_pictures(tmp_path / "run", pictures)


def test_pictures_that_failed_may_be_mended_and_run_again(tmp_path: Path):
    pictures = Files(tmp_path / "pictures")
    right = (pictures.folder / "image 02").read_bytes()
    (pictures.folder / "image 02").unlink()
    (pictures.folder / "image 03").unlink()
    os.mkfifo(pictures.folder / "image 03")  # neither is waited on, nor do they cost the other images
    whole = run_pictures(tmp_path / "run", pictures)
    assert list(whole.failures["key"]) == ["image 02", "image 03"]
    (pictures.folder / "image 02").write_bytes(right)
    assert list(run_pictures(tmp_path / "run", pictures).failures["key"]) == ["image 02", "image 03"]
    assert list(run_pictures(tmp_path / "run", pictures, retry=True).failures["key"]) == ["image 03"]
    (pictures.folder / "image 02").write_bytes(b"other")
    with pytest.raises(InputError, match=r"the files of 1 of .* images have changed since .*: 'image 02'"):
        run_pictures(tmp_path / "run", pictures, retry=True)


@pytest.mark.parametrize("name", ["run.json", "run.lock", "parts"])
def test_no_link_in_the_folder_of_a_run_is_followed(tmp_path: Path, name: str):
    (tmp_path / "theirs").write_bytes(b"theirs") if name != "parts" else (tmp_path / "theirs").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to("../theirs")
    with pytest.raises(InputError, match=rf"{name}' is a link, which is not followed; remove it, or choose another"):
        run_pictures(tmp_path / "run")
    assert names(tmp_path / "run") == [name]
    assert not names(tmp_path / "theirs") if name == "parts" else (tmp_path / "theirs").read_bytes() == b"theirs"


def test_pipes_and_folders_under_the_names_of_a_run_are_not_waited_on(tmp_path: Path):
    for place, make in enumerate((Path.mkdir, os.mkfifo)):
        for name, words in (("run.json", "run.json' cannot be read"), ("run.lock", "run.lock'")):
            folder = run_pictures(tmp_path / f"{place} {name}").folder
            (folder / name).unlink()
            make(folder / name)
            with pytest.raises(InputError, match=words):
                run_pictures(folder)


def test_a_flipped_bit_in_the_record_is_told(tmp_path: Path):
    whole = run_pictures(tmp_path)
    path, place = tmp_path / "run.json", random.Random(0)
    right = path.read_bytes()
    told = 0
    for _ in range(100):
        changed = bytearray(right)
        changed[place.randrange(len(right))] ^= 1 << place.randrange(8)
        path.write_bytes(changed)
        try:
            found = Run(tmp_path)
        except InputError:
            told += 1
        else:  # one blank for another
            assert found.record == whole.record
    assert told > 60


def test_other_classes_of_the_same_pictures_are_other_settings(tmp_path: Path):
    run_pictures(tmp_path)
    pictures = Pictures()
    pictures.classes = ("cat",)
    with pytest.raises(InputError, match=r"settings: dataset\.classes was"):
        run_pictures(tmp_path, pictures)
    pictures = Pictures()
    pictures.options = {"inclusive_boxes": False}
    with pytest.raises(InputError, match=r"settings: dataset.inclusive_boxes was absent, now false"):
        run_pictures(tmp_path, pictures)


def test_a_file_of_many_images_is_digested_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shard, opened = tmp_path / "shard", []
    shard.write_bytes(bytes(range(256)) * 100)
    pictures = Pictures()
    monkeypatch.setattr(Pictures, "files", lambda self, key: (shard,))
    make = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(path) or make(path, *a, **k))
    assert len(set(contents_of(pictures, pictures.keys).values())) == 1
    assert opened.count(shard) == 1


def test_the_record_names_no_path_of_the_machine(tmp_path: Path):
    (tmp_path / "weights").mkdir()
    run_pictures(tmp_path / "run", model=model(name=str(tmp_path / "weights")))
    text = (tmp_path / "run" / "run.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["settings"]["model"]["name"] == "weights"
    assert shown_name("facebook/dinov2-base") == "facebook/dinov2-base"
    assert shown_name("timm:vit_small_patch16_224.dino") == "timm:vit_small_patch16_224.dino"


def test_the_digest_of_weights_sees_every_tensor():
    def changed(name: str) -> str:
        other = model().module
        with torch.no_grad():
            other.state_dict()[name].reshape(-1)[0] += 1
        return weights_digest(other)

    tensors = list(model().module.state_dict())
    assert len({weights_digest(model().module), *map(changed, tensors)}) == 1 + len(tensors)
    assert weights_digest(model().module) == weights_digest(model().module)
    assert weights_digest(model().module.to(torch.bfloat16)) != weights_digest(model().module)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path):
    inside, go = threading.Event(), threading.Event()

    def wait(key: str) -> None:
        inside.set()
        go.wait(20)

    worker = threading.Thread(target=run_pictures, args=(tmp_path, None, Brightness(before=wait)))
    worker.start()
    try:
        assert inside.wait(20)
        with pytest.raises(InputError, match="another run is at work in"):
            run_pictures(tmp_path)
    finally:
        go.set()
        worker.join()
    assert run_pictures(tmp_path).complete


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"holds other things than a run \(it has no run.json, but 'thesis.tex'\)"):
        run_pictures(tmp_path)
    assert names(tmp_path) == ["thesis.tex"]
    with pytest.raises(InputError, match="cannot write into"):
        run_pictures(tmp_path / "thesis.tex")
    with pytest.raises(InputError, match=r"is not the folder of a run: it has no run\.json"):
        Run(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "cannot be read"), ('{"format": 9}', "holds a run of format 9, expected format 3"),
     ('{"format": 3}', "lacks settings"), ("[]", "holds a run of no format, expected format 3"),
     ('{"format": 3, "settings": 1, "problems": {}, "runs": [], "keys": [], "contents": {}}', "lacks settings")],
)  # fmt: skip
def test_a_broken_record_is_named(tmp_path: Path, content: str, words: str):
    run_pictures(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=words):
        run_pictures(tmp_path)
    assert len(names(tmp_path / "parts")) == 3


def test_a_folder_of_an_earlier_version_is_refused_with_the_reason(tmp_path: Path):
    run_pictures(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["format"] == FORMAT
    for earlier, found in (({**record, "format": 1}, "format 1"), (record, "no format")):
        if found == "no format":
            del earlier["format"]
        (tmp_path / "run.json").write_text(json.dumps(earlier))
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for read in (run_pictures, Run):
            with pytest.raises(InputError) as caught:
                read(tmp_path)
            assert str(caught.value) == (
                f"{str(tmp_path)!r} holds a run of {found}, expected format {FORMAT}: another version of tokenrank "
                "wrote it, and its rows must not be mixed with those of this one; give another folder with --out, or "
                "delete this one"
            )
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def part(folder: Path, number: int) -> Path:
    return next((folder / "parts").glob(f"part-{number:06}-*.parquet"))


@pytest.mark.parametrize("content", [b"", b"PAR1 not parquet", None])
def test_a_broken_part_is_set_aside_and_its_images_run_again(tmp_path: Path, content: bytes | None):
    whole = run_pictures(tmp_path / "a")
    run_pictures(tmp_path / "b")
    broken = part(tmp_path / "b", 1)
    broken.write_bytes(broken.read_bytes()[:300] if content is None else content)
    with pytest.raises(InputError, match=r"part-000001-\w{16}\.parquet' is not what was written"):
        Run(tmp_path / "b").rows()
    pictures = Pictures()
    mended = run_pictures(tmp_path / "b", pictures)
    assert pictures.reads == list(pictures.keys[5:10])
    assert same(mended, whole)
    assert mended.starts[1]["set_aside"] == [f"{broken.name}.broken"]
    assert broken.with_name(f"{broken.name}.broken").exists()


def test_a_flipped_bit_anywhere_in_a_part_is_seen(tmp_path: Path):
    run_pictures(tmp_path)
    path = part(tmp_path, 1)
    right, place = path.read_bytes(), random.Random(0)
    for _ in range(100):
        changed = bytearray(right)
        changed[place.randrange(len(right))] ^= 1 << place.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(InputError, match="is not what was written"):
            Run(tmp_path).rows()
    path.write_bytes(right)
    assert Run(tmp_path).rows()["key"].nunique() == 12


def test_what_a_part_was_set_aside_for_before_is_kept(tmp_path: Path):
    run_pictures(tmp_path)
    path = part(tmp_path, 1)
    right = path.read_bytes()
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        run_pictures(tmp_path)
        part(tmp_path, 3).unlink()
    kept = [path.with_name(f"{path.name}.broken{more}") for more in ("", "-2", "-3")]
    assert [file.read_bytes() for file in kept] == [b"one", b"two", b"three"]
    path.write_bytes(right)
    assert run_pictures(tmp_path).complete


def test_a_folder_or_a_pipe_where_a_part_should_be_is_set_aside(tmp_path: Path):
    whole = run_pictures(tmp_path / "a")
    for place, make in enumerate((Path.mkdir, os.mkfifo)):
        folder = tmp_path / str(place)
        run_pictures(folder)
        path = part(folder, 1)
        path.unlink()
        make(path)
        with pytest.raises(InputError, match="is no regular file"):
            Run(folder).rows()
        assert same(run_pictures(folder), whole)


def renamed(path: Path, number: int) -> Path:
    """The name of a part with this content under another number."""
    digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    return path.with_name(f"part-{number:06}-{digest}.parquet")


def test_parts_that_do_not_belong_are_named(tmp_path: Path):
    whole = run_pictures(tmp_path / "a")
    first = part(tmp_path / "a", 0)
    shutil.copy(first, renamed(first, 7))
    with pytest.raises(InputError, match=r"part-000007-\w+.parquet' holds image 'image 00', which another part holds"):
        run_pictures(tmp_path / "a")
    renamed(first, 7).unlink()
    other = part(run_pictures(tmp_path / "b", seed=1).folder, 0)
    shutil.copy(other, first.parent / renamed(other, 8).name)
    with pytest.raises(InputError, match=r"is a part of run '\w{16}', expected '\w{16}'"):
        Run(tmp_path / "a").rows()
    parquet.write_table(pyarrow.table({"a": [1]}), first.parent / "x")
    (first.parent / "x").rename(renamed(first.parent / "x", 9))
    with pytest.raises(InputError, match="is a part of run"):
        Run(tmp_path / "a").rows()
    table = parquet.read_table(first)
    parquet.write_table(table.rename_columns(["a", *table.column_names[1:]]), first.parent / "x")
    (first.parent / "x").rename(renamed(first.parent / "x", 10))
    mended = run_pictures(tmp_path / "a")
    assert len(mended.starts[-1]["set_aside"]) == 3
    assert same(mended, whole)


def test_a_part_of_images_that_are_none_of_the_runs_is_named(tmp_path: Path):
    run_pictures(tmp_path / "a")
    record = read_record(tmp_path / "a")
    record["keys"].pop(0)
    write_record(tmp_path / "a", record)
    with pytest.raises(InputError, match="holds image 'image 00', which is none of the run's"):
        Run(tmp_path / "a").rows()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int):
    sync, left = os.fsync, [2 + 2 + 1]  # the record, the first part, half of the second

    def refuse(descriptor: int) -> None:
        if not left[0]:
            raise OSError(code, os.strerror(code))
        left[0] -= 1
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError) as caught:
        run_pictures(tmp_path)
    assert os.strerror(code) in str(caught.value)
    assert "5 of 12 images are kept" in str(caught.value)
    assert "start the same run again" in str(caught.value)
    assert ("free some space" in str(caught.value)) == (code == errno.ENOSPC)
    monkeypatch.undo()
    finished = run_pictures(tmp_path)
    assert not [name for name in names(tmp_path / "parts") if name.startswith(".")]
    assert same(finished, run_pictures(tmp_path / "whole"))


def test_a_full_disk_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match="No space left"):
        run_pictures(tmp_path / "run")
    monkeypatch.undo()
    assert run_pictures(tmp_path / "run").complete


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path):
    run_pictures(tmp_path)
    left = [tmp_path / f".{name}.{'0a' * 8}.unfinished" for name in ("run.json", "means.png")]
    left.append(tmp_path / "parts" / f".part-000003.parquet.{'0b' * 8}.unfinished")
    for path in left:
        path.write_bytes(b"half")
    run_pictures(tmp_path)
    assert not any(path.exists() for path in left)


def test_a_larger_limit_keeps_the_images_of_a_smaller_one(tmp_path: Path):
    small, large = (set(run_pictures(tmp_path / str(n), limit=n).rows()["key"]) for n in (3, 7))
    assert small < large
    assert (len(small), len(large)) == (3, 7)
    other = set(run_pictures(tmp_path / "other", limit=7, seed=4).rows()["key"])
    assert other != large
    assert set(run_pictures(tmp_path / "all", limit=99).keys) == set(Pictures().keys)


def test_halves_are_the_even_and_the_odd_places(tmp_path: Path):
    even, odd = (run_pictures(tmp_path / str(half), half=half).keys for half in (0, 1))
    assert even == Pictures().keys[::2]
    assert odd == Pictures().keys[1::2]
    assert set(run_pictures(tmp_path / "two", half=1, limit=2).keys) < set(odd)


def test_rows_are_in_the_order_of_the_images_whatever_the_order_of_the_parts(tmp_path: Path):
    broken = {f"image {i:02}": "is being copied" for i in (0, 1, 2, 6)}
    run_pictures(tmp_path / "a", Pictures(broken=broken), batch=2)
    assert same(run_pictures(tmp_path / "a", batch=3, retry=True), run_pictures(tmp_path / "b"))
    first, last = (Run(tmp_path / name) for name in "ab")
    paths = sorted((last.folder / "parts").glob("part-*"))
    for number, path in enumerate(reversed(paths)):
        path.rename(renamed(path, 100 + number))
    assert same(first, last)


def test_keys_of_any_characters(tmp_path: Path):
    keys = ["caf\udce9", "caf\\udce8", "naïve/图像.png", " ", "| a | <b> $x$\n"]
    done = run_pictures(tmp_path, Pictures(keys, broken={"caf\udce9": "broken \udce9"}), batch=2)
    assert done.rows()["key"].nunique() == 4
    assert done.failures.to_dict("list") == {"key": ["caf\\udce9"], "error": ["InputError: broken \\udce9"]}
    again = Pictures(keys)
    assert run_pictures(tmp_path, again, batch=2).complete
    assert again.reads == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch = 0"),
        ({"limit": 0}, "limit = 0"),
        ({"half": 2}, "half = 2"),
        ({"methods": []}, "one at least"),
        ({"methods": [METHODS[0], METHODS[0]]}, "no name twice"),
        ({"dataset": Pictures(["a", "b", "a"])}, "two images of one key"),
        ({"dataset": Pictures(1), "half": 1}, "no image to run; of 1 that cannot be used, 'lost': has no mask"),
        ({"dataset": Pictures(0)}, "no images"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict[str, Any], words: str):
    with pytest.raises(InputError, match=words):
        run_pictures(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


class Odd(Brightness):
    def __init__(self, made: list[dict[str, Any]]) -> None:
        super().__init__()
        self.made = made

    def rows(self, *_: Any) -> list[dict[str, Any]]:
        return self.made


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([], "expected one row a method"),
        ([{"score": 1.0}], "expected one row a method"),
        ([{"method": "a"}, {"method": "a"}], "expected one row a method"),
        ([{"method": "a", "map": {"x": 1}}], "column 'map' holds a dict"),
        ([{"method": "a", "x": 1.0}, {"method": "b", "x": "one"}], "a column holds one type"),
    ],
)
def test_a_protocol_that_returns_what_is_no_table(tmp_path: Path, made: list[dict[str, Any]], words: str):
    with pytest.raises(InputError, match=words):
        run_pictures(tmp_path, protocol=Odd(made))


def test_columns_may_be_empty_or_missing_in_some_batches(tmp_path: Path):
    made = {
        "image 00": {"x": 1, "list": [], "sometimes": None},
        "image 01": {"x": 2.5, "list": [1.0, float("nan")], "sometimes": 3},
        "image 02": {"x": float("nan"), "list": [2], "more": "text"},
    }

    class Varied(Brightness):
        def rows(self, model: Any, sample: Any, methods: Any) -> list[dict[str, Any]]:
            return [{"method": "a", **made[sample.key]}]

    rows = run_pictures(tmp_path, Pictures(3), Varied(), batch=1, methods=[method("a")]).rows()
    assert rows["x"].tolist()[:2] == [1.0, 2.5]
    assert np.isnan(rows["x"][2])
    assert [len(entry) for entry in rows["list"]] == [0, 2, 1]
    assert rows["list"][2].tolist() == [2.0]
    assert rows["sometimes"].isna().tolist() == [True, False, True]
    assert rows["more"][2] == "text"


def test_run_takes_what_the_contract_says(tmp_path: Path):
    done = run(Brightness(), Pictures(2), model(), METHODS, str(tmp_path / "run"))
    assert done.folder == tmp_path / "run"
    assert len(done.rows()) == 6


def test_what_images_took_is_kept_beside_their_rows(tmp_path: Path):
    class Slow(Brightness):
        def rows(self, model: Any, sample: Any, methods: Any) -> list[dict[str, Any]]:
            with spent_on(FORWARD):
                time.sleep(0.002)
            with spent_on(methods[0].name):
                time.sleep(0.004)
            return super().rows(model, sample, methods)

    broken = Pictures(broken={"image 03": "cannot be read"})
    times = run_pictures(tmp_path, broken, Slow()).times()
    assert list(times.columns) == ["key", "seconds", "forward", "methods"]
    assert list(times["key"]) == [key for key in Pictures().keys if key != "image 03"]
    assert (times["forward"] >= 0.002).all()
    assert all(first >= 0.004 and others == [None, None] for first, *others in times["methods"])
    assert (times["seconds"] > times["forward"] + [first for first, *_ in times["methods"]]).all()


def test_runs_without_times_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As of versions that did not measure."""
    monkeypatch.setattr(parts, "TIMES", "another note")
    run_pictures(tmp_path)
    monkeypatch.undo()
    assert len(Run(tmp_path).times()) == 0
    assert len(Run(tmp_path).rows()) == 12 * len(METHODS)
