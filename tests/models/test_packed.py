"""Packed weights: what is written is read, and what was changed since is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tokenrank.errors import InputError
from tokenrank.models.load import load
from tokenrank.models.packed import FILE, Packed, deflated, inflated, read_packed, write_packed

BUNDLED = Path(__file__).parents[2] / "src/tokenrank/models/bundled/text"


def some(rows: int, columns: int, seed: int) -> Packed:
    random = np.random.default_rng(seed)
    codes = np.clip(random.normal(0, 4, (rows, columns)).round(), -127, 127).astype(np.int8)
    return Packed(codes, random.uniform(0.01, 2, rows).astype(np.float16))


@given(arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(-127, 127)))
def test_what_is_deflated_comes_back(codes: np.ndarray) -> None:
    np.testing.assert_array_equal(inflated(deflated(codes), codes.shape), codes)


def test_values_are_steps_times_codes() -> None:
    packed = some(3, 50, 1)
    expected = packed.codes.astype(np.float64) * packed.steps.astype(np.float64)[:, None]
    np.testing.assert_array_equal(packed.values().numpy(), expected.astype(np.float32))


def test_a_file_holds_matrices_vectors_and_names_of_zeros(tmp_path: Path) -> None:
    vector, zero, packed = torch.randn(7), torch.zeros(4, 5), some(4, 30, 0)
    write_packed(tmp_path / FILE, {"w": packed, "bias": vector, "zero": zero})
    read = read_packed(tmp_path / FILE)
    assert set(read) == {"w", "bias", "zero"}
    assert torch.equal(read["w"], packed.values())
    assert torch.equal(read["bias"], vector.half().float())
    assert torch.equal(read["zero"], zero)
    assert all(tensor.dtype == torch.float32 for tensor in read.values())


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    write_packed(tmp_path / FILE, {"w": some(4, 64, 0), "bias": torch.randn(5)})
    whole = (tmp_path / FILE).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in (*range(header, len(whole), 7), len(whole) - 1):
        (tmp_path / FILE).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"damaged: its checksum is \w{12}….*pip install --force-reinstall"):
            read_packed(tmp_path / FILE)
    for length in (0, 5, header, len(whole) - 1):
        (tmp_path / FILE).write_bytes(whole[:length])
        with pytest.raises(InputError, match="missing or damaged"):
            read_packed(tmp_path / FILE)
    assert whole.count(b"[4, 64]") == 1
    (tmp_path / FILE).write_bytes(whole.replace(b"[4, 64]", b"[64, 4]"))
    with pytest.raises(InputError, match="its checksum is"):
        read_packed(tmp_path / FILE)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / FILE)
    with pytest.raises(InputError, match="does not say what it holds"):
        read_packed(tmp_path / FILE)
    with pytest.raises(InputError, match="missing or damaged"):
        read_packed(tmp_path / "none.safetensors")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLED, tmp_path / "text"))


def test_loading_tells_of_damage(copied: Path) -> None:
    content = bytearray((copied / FILE).read_bytes())
    content[len(content) // 2] ^= 16
    (copied / FILE).write_bytes(content)
    with pytest.raises(InputError, match=r"text/packed\.safetensors' are missing or damaged: its checksum"):
        load(copied)


def test_loading_tells_of_another_config(copied: Path) -> None:
    config = (copied / "config.json").read_text()
    (copied / "config.json").write_text(config.replace('"vocab_size": 8000', '"vocab_size": 8001'))
    with pytest.raises(InputError, match=r"word_embeddings.weight is \(8000, 384\), expected \(8001, 384\)"):
        load(copied)
    (copied / "config.json").write_text(config.replace('"num_hidden_layers": 6', '"num_hidden_layers": 7'))
    with pytest.raises(InputError, match=r"lack 16 tensors, such as encoder\.layer\.6"):
        load(copied)
