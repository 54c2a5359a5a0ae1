"""Engines without a cluster: choice, sizes, memory that runs out."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from tests.evaluate.runs import model
from tests.workers.cases import Hungry
from tokenrank.errors import InputError, MissingExtraError
from tokenrank.workers import Local, engine_of
from tokenrank.workers.attempts import Attempts
from tokenrank.workers.cluster import _fitting, imported, missing_there
from tokenrank.workers.device import model_on
from tokenrank.workers.on_ray import RayEngine, _pickled


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("spark", {}, "engine = 'spark', expected one of 'local', 'ray'"),
        ("local", {"workers": 2, "gpus": 0.5}, "workers = 2, gpus = 0.5 for engine 'local', which is this process"),
        ("ray", {"workers": 0}, "workers = 0, expected a whole number from 1"),
        ("ray", {"workers": True}, "workers = True, expected"),
        ("ray", {"gpus": 1.5}, "gpus = 1.5, expected a part of one"),
        ("ray", {"gpus": -1}, "gpus = -1, expected"),
        ("ray", {"cpus": 0}, r"cpus = 0, expected a part of one \(more than 0"),
        ("ray", {"cpus": float("nan")}, "cpus = nan, expected"),
        ("ray", {"cpus": "2"}, "cpus = '2', expected a number"),
        ("ray", {"gpus": True}, "gpus = True, expected a number"),
        ("ray", {"address": ""}, "address = '', expected 'auto' or HOST:PORT"),
        ("ray", {"address": "ray://a:1"}, "address = 'ray://a:1', expected 'auto' or HOST:PORT"),
        ("ray", {"address": 5}, "address = 5, expected"),
        ("ray", {"runtime_env": 3}, "runtime_env is a int, expected a mapping"),
    ],
)
def test_what_cannot_be_an_engine(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        engine_of(name, **options)


def test_engines_by_name() -> None:
    assert isinstance(engine_of("local"), Local)
    assert engine_of("ray", workers=3, gpus=0.25) == RayEngine(None, 3, 1.0, 0.25)
    assert engine_of("ray").record() == {"name": "ray", "workers": None, "cpus": 1.0, "gpus": 0.0}


@pytest.mark.parametrize(
    ("there", "cpus", "gpus", "fit"),
    [
        ({"CPU": 16.0, "GPU": 8.0}, 1, 1, 8),
        ({"CPU": 16.0, "GPU": 8.0}, 4, 1, 4),
        ({"CPU": 64.0, "GPU": 8.0}, 1, 0.25, 32),
        ({"CPU": 64.0, "GPU": 8.0}, 1, 0.4, 16),  # two of 0.4 a GPU; a fifth does not go across two of them
        ({"CPU": 64.0, "GPU": 8.0}, 1, 3, 2),
        ({"CPU": 2.0}, 0.5, 0, 4),
        ({"CPU": 2.0}, 1, 0.5, 0),
        ({"GPU": 1.0}, 1, 1, 0),
    ],
)
def test_how_many_workers_fit_on_a_node(there: dict[str, float], cpus: float, gpus: float, fit: int) -> None:
    assert _fitting(there, cpus, gpus) == fit


def test_a_batch_that_is_too_large_goes_one_by_one_and_an_item_that_is_fails() -> None:
    results = list(Local().results(Hungry(whales=["c"]), [["a", "b", "c"], ["d"]]))
    assert [done.keys for done in results] == [("a",), ("b",), ("c",), ("d",)]
    assert [row["key"] for done in results for row in done.rows] == ["a", "b", "d"]
    (words,) = (error for done in results for error in done.failures.values())
    assert "can't allocate memory" in words
    assert "it was alone: take smaller inputs" in words


def test_a_batch_may_be_begun_so_often_and_others_do_not_count() -> None:
    attempts = Attempts(2)
    assert [attempts.begin(7) for _ in range(3)] == [True, True, False]
    assert attempts.begin(8)
    assert attempts.repeated() == 2


def test_the_process_that_counts_imports_nothing_heavy() -> None:
    script = "import sys, tokenrank.workers.attempts; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_missing_extra_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[distributed\]'"):
        imported(alone=False)


def test_work_that_cannot_be_sent_is_refused_before_anything_starts() -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r"cannot be sent to them: TypeError: .*keep open files, locks"):
        _pickled((lambda: None, sys.stdout))


def test_an_error_of_a_lacking_package_is_told_from_others() -> None:
    error = missing_there(RuntimeError("Traceback\n  File x\nModuleNotFoundError: No module named 'tokenrank'\n"))
    assert error is not None
    assert "lack a package (No module named 'tokenrank')" in str(error)
    assert "runtime_env={'pip': ['tokenrank[evaluate,distributed]']}" in str(error)
    assert missing_there(RuntimeError("out of disk")) is None


def test_a_model_elsewhere_is_a_copy_whose_inputs_follow_it() -> None:
    there = model()
    assert model_on(there, "cpu") is there
    moved = model_on(there, "meta")
    assert next(there.module.parameters()).device.type == "cpu"
    assert moved.module(torch.ones(2, 3)).device.type == "meta"
    assert isinstance(moved.module, nn.Sequential)
    assert there.module(torch.ones(2, 3)).device.type == "cpu"
