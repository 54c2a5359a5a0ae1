from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.evaluate.datasets.writing import noise, write
from tokenrank.errors import InputError
from tokenrank.evaluate.quality import Network, extract, open_pictures
from tokenrank.evaluate.quality.features import Features
from tokenrank.evaluate.quality.stored import PART


def folder(root: Path, count: int = 3) -> Path:
    for place in range(count):
        write(root / f"{place:03d}.png", noise(8, 10, place))
    return root


def test_a_folder_an_npz_and_an_array_are_the_same_pictures(tmp_path: Path):
    array = np.stack([noise(8, 10, place) for place in range(3)])
    np.savez(tmp_path / "three.npz", array)
    for source in (folder(tmp_path / "three"), tmp_path / "three.npz", array):
        found = open_pictures(source)
        assert len(found) == 3
        np.testing.assert_array_equal(np.stack([found.read(place) for place in range(3)]), array)
        assert len({found.digest(place) for place in range(3)}) == 3


def test_what_holds_no_pictures_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        open_pictures(tmp_path / "empty")
    with pytest.raises(InputError, match="no folder"):
        open_pictures(tmp_path / "none")
    with pytest.raises(InputError, match=r"float64 \(2, 4, 4, 3\); expected uint8"):
        open_pictures(np.zeros((2, 4, 4, 3)))
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"broken.npz' cannot be read as .npz"):
        open_pictures(tmp_path / "broken.npz")
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"objects.npz' cannot be read as .npz"):
        open_pictures(tmp_path / "objects.npz")


class Means:
    """A network of three numbers, that counts what it is given."""

    def __init__(self, digest: str = "one") -> None:
        self.seen: list[int] = []
        self.network = Network("means", digest, self.run)

    def run(self, pictures: np.ndarray) -> Features:
        self.seen.append(len(pictures))
        return Features(pictures.mean((1, 2)).astype(np.float32), pictures.max((1, 2)).astype(np.float32))


def test_features_are_in_the_order_of_pictures_of_any_size(tmp_path: Path):
    for place, size in enumerate([(4, 6), (4, 6), (8, 8), (4, 6)]):
        write(tmp_path / f"{place}.png", noise(*size, place))
    found = extract(open_pictures(tmp_path), Means().network, batch=3)
    expected = [noise(*size, place).mean((0, 1)) for place, size in enumerate([(4, 6), (4, 6), (8, 8), (4, 6)])]
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert found.logits is not None


def test_a_second_start_computes_what_is_new_or_changed(tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 256, (PART + 5, 4, 4, 3), dtype=np.uint8)
    first = Means()
    whole = extract(open_pictures(array), first.network, tmp_path / "store")
    again = Means()
    same = extract(open_pictures(array), again.network, tmp_path / "store")
    assert (sum(first.seen), again.seen) == (PART + 5, [])
    np.testing.assert_array_equal(same.values, whole.values)
    changed = array.copy()
    changed[-1, 0, 0, 0] ^= 255
    third = Means()
    found = extract(open_pictures(changed), third.network, tmp_path / "store")
    assert sum(third.seen) == 5
    assert (found.values[-1] != whole.values[-1]).any()
    other = Means("two")
    extract(open_pictures(array), other.network, tmp_path / "store")
    assert sum(other.seen) == PART + 5


def test_a_run_that_stops_in_the_middle_goes_on(tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 256, (2 * PART, 4, 4, 3), dtype=np.uint8)
    stopping = Means()
    inner = stopping.run

    def stop(pictures: np.ndarray) -> Features:
        if sum(stopping.seen) >= PART:
            raise KeyboardInterrupt
        return inner(pictures)

    with pytest.raises(KeyboardInterrupt):
        extract(open_pictures(array), Network("means", "one", stop), tmp_path)
    going = Means()
    assert len(extract(open_pictures(array), going.network, tmp_path)) == 2 * PART
    assert sum(going.seen) == PART


def test_a_broken_file_of_the_store_is_named(tmp_path: Path):
    array = np.zeros((3, 4, 4, 3), np.uint8)
    extract(open_pictures(array), Means().network, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(InputError, match=r"holds no features: .*; remove it, and it is computed anew"):
        extract(open_pictures(array), Means().network, tmp_path)


def test_a_broken_picture_is_named(tmp_path: Path):
    path = write(tmp_path / "one.png", noise())
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"one\.png"):
        extract(open_pictures(tmp_path), Means().network)
    assert PIL.Image.Image
