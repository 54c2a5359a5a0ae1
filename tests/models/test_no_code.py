"""A model's folder brings numbers and settings; code that comes along with it never runs, and nobody is asked."""

from __future__ import annotations

import builtins
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tokenrank as tr
from tests.tiny import save_bert
from tokenrank.errors import InputError

CODE = """
from pathlib import Path
Path({trace!r}).write_text("ran")
from transformers import BertConfig, BertModel, BertTokenizerFast, WhisperFeatureExtractor

class OwnConfig(BertConfig):
    model_type = {model_type!r}

class OwnModel(BertModel):
    config_class = OwnConfig

class OwnTokenizer(BertTokenizerFast):
    pass

class OwnExtractor(WhisperFeatureExtractor):
    pass
"""


@pytest.fixture(autouse=True)
def _nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*words: object) -> str:
        pytest.fail(f"a question on the terminal: {words}")

    monkeypatch.setattr(builtins, "input", asked)


def with_code(folder: Path, model_type: str) -> tuple[Path, Path]:
    """A BERT whose every part has a class of its own beside it, and the file that this code writes when it runs."""
    folder = save_bert(folder)
    trace = folder.parent / "ran.txt"
    (folder / "own.py").write_text(CODE.format(trace=str(trace), model_type=model_type))
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = model_type
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["own.OwnTokenizer", "own.OwnTokenizer"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder, trace


def test_code_beside_an_unknown_model_is_refused_by_name(tmp_path: Path):
    folder, trace = with_code(tmp_path / "model", "one-of-its-own")
    with pytest.raises(InputError, match="runs no code from elsewhere") as error:
        tr.load(folder)
    assert not trace.exists()
    assert str(folder) in str(error.value)
    assert "trust_remote_code=True" not in str(error.value)


def test_code_beside_a_known_model_is_left_alone(tmp_path: Path):
    folder, trace = with_code(tmp_path / "model", "bert")
    model = tr.load(folder)
    assert type(model.module).__module__.startswith("transformers.models.bert")
    assert not trace.exists()


class Command:
    """What a pickle runs when it is read without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_commands_is_refused(tmp_path: Path):
    folder = save_bert(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "more": Command(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="may run code when it is read") as error:
        tr.load(folder)
    assert not (tmp_path / "ran").exists()
    assert "weights_only=False" not in str(error.value)
    pickle.loads(pickle.dumps(Command(tmp_path / "ran")))  # it would have run
    assert (tmp_path / "ran").exists()


def test_weights_as_a_plain_pickle_of_tensors_are_read(tmp_path: Path):
    folder = save_bert(tmp_path / "model")
    right = tr.load(folder).module.state_dict()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    found = tr.load(folder).module.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in right.items())


def test_a_pickle_of_timm_that_runs_commands_is_refused(tmp_path: Path):
    pytest.importorskip("timm")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "num_classes": 0}))
    torch.save({"more": Command(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="may run code when it is read"):
        tr.load(folder)
    assert not (tmp_path / "ran").exists()
