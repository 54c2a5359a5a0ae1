"""``tr.map`` in this process: values, failures, resuming; workers are in tests/workers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tests.workers.cases import brightness, write_pictures
from tokenrank.errors import InputError, NotFoundError
from tokenrank.evaluate.runner.folder import read_record
from tokenrank.mapping.function import settings_of_function
from tokenrank.progress import listening


def lambda2(observation: tr.Observation) -> dict[str, Any]:
    return {"lambda2": observation.lambda2().values.max(), "model": observation.name}


def drawn(source: Any) -> float:
    return float(torch.rand(()))


def test_a_model_looks_at_every_picture_once_loaded(tmp_path: Path) -> None:
    paths = [tr.samples.path(name) for name in ("coffee", "rocket")]
    found = tr.map(paths, lambda2, size=64, out=tmp_path / "out")
    for path in paths:
        expected = tr.observe(path, size=64).lambda2().values.max()
        assert found[str(path)] == {"lambda2": float(expected), "model": "bundled"}
    assert list(found.frame()["key"]) == [str(path) for path in paths]
    record = read_record(tmp_path / "out")
    assert record["settings"]["reading"] == {"size": 64}
    assert str(tmp_path) not in str(record["settings"])


def test_the_first_source_says_which_bundled_model() -> None:
    texts = ["The cat sat on the mat", "The dog lay under the table"]
    found = tr.map(texts, lambda observation: observation.modality)
    assert dict(found.values) == dict.fromkeys(texts, "text")


def test_values_without_a_folder_are_what_the_function_returns_in_order() -> None:
    sources = {"b": np.arange(3), "a": np.arange(4)}
    found = tr.map(sources, lambda array: array.sum, model=None, batch=1)
    assert list(found) == ["b", "a"]
    assert [found[key]() for key in found] == [3, 6]
    assert list(tr.map([1, 1], float, model=None)) == ["00000000", "00000001"]


def test_a_source_that_fails_costs_no_other_one(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 10)
    Path(paths[3]).write_bytes(b"no picture")
    found = tr.map(paths, brightness, model=None, out=tmp_path / "out", batch=4)
    assert list(found) == [path for path in paths if path != paths[3]]
    with pytest.raises(NotFoundError, match="failed with UnidentifiedImageError: cannot identify"):
        found[paths[3]]
    with pytest.raises(NotFoundError, match="no source 'x'"):
        found["x"]
    PIL.Image.new("RGB", (8, 8)).save(paths[3])
    mended = tr.map(paths, brightness, model=None, out=tmp_path / "out", retry=True)
    assert list(mended) == paths
    assert not mended.failures
    assert len(tr.map(["a", "b"], brightness, model=None).failures) == 2


def test_rows_do_not_depend_on_batches_and_pieces(tmp_path: Path) -> None:
    sources = {f"source {i}": i for i in range(20)}
    whole = tr.map(sources, drawn, model=None, out=tmp_path / "whole")
    assert len(set(whole.values.values())) == 20

    def stop(words: str, done: int, total: int | None) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with listening(stop), pytest.raises(KeyboardInterrupt):
        tr.map(sources, drawn, model=None, out=tmp_path / "pieces", batch=3)
    counts: list[int] = []
    with listening(lambda words, done, total: counts.append(done)):
        pieces = tr.map(sources, drawn, model=None, out=tmp_path / "pieces", batch=7)
    assert counts == [6, 13, 20]
    pandas.testing.assert_frame_equal(pieces.frame(), whole.frame(), check_exact=True)
    assert dict(tr.map(sources, drawn, model=None, batch=20).values) == dict(whole.values)
    assert dict(tr.map(sources, drawn, model=None, seed=1).values) != dict(whole.values)


def other(source: Any) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"function": other}, 'map.name was "drawn", now "other"'),
        ({"sources": {"a": 1, "c": 2}}, "sources.digest was"),
        ({"sources": {"a": 1, "b": 3}}, "the files of 1 of 2 sources have changed since .*: 'b'"),
        ({"seed": 4}, "seed was 0, now 4"),
        ({"model": "bundled"}, "model was null"),
    ],
)
def test_a_folder_of_another_call_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    call: dict[str, Any] = {"sources": {"a": 1, "b": 2}, "function": drawn, "model": None, "out": tmp_path / "out"}
    tr.map(**call)
    with pytest.raises(InputError, match=words):
        tr.map(**(call | change))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"sources": "cat.jpg"}, r"sources = 'cat.jpg', expected several"),
        ({"sources": []}, "there are no sources"),
        ({"sources": ["a", "a"]}, "source 'a' stands there twice"),
        ({"sources": {1: "a"}}, "key 1 of a source, expected text"),
        ({"sources": None}, "sources is a NoneType, expected a list"),
        ({"function": 3}, "function is a int"),
        ({"batch": 0}, "batch = 0"),
        ({"sise": 3}, "sise = 3, expected of tr.observe's options"),
        ({"size": 64}, "size= goes with a model"),
        ({"workers": 2}, "workers = 2 for engine 'local'"),
        ({"engine": "spark"}, "engine = 'spark'"),
    ],
)
def test_bad_calls(call: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        tr.map(**({"sources": ["a"], "function": drawn, "model": None, "out": tmp_path / "out"} | call))
    assert not (tmp_path / "out").exists()


def test_what_is_no_row_fails_its_source(tmp_path: Path) -> None:
    made = {"a": {"key": 1}, "b": object(), "c": [1, 2.5], "d": 2**63}
    found = tr.map(dict.fromkeys(made), made.get, model=None, out=tmp_path / "none")
    assert set(found.values.values()) == {None}
    found = tr.map(dict(zip(made, made, strict=True)), made.__getitem__, model=None, out=tmp_path / "out")
    assert found["c"] == [1.0, 2.5]
    assert "returned a column 'key'" in found.failures["a"]
    assert "column 'value' holds a object" in found.failures["b"]
    assert "column 'value' holds a whole number of 65 bits, expected at most 64" in found.failures["d"]
    found = tr.map(dict(zip(made, made, strict=True)), made.__getitem__, model=None)
    assert found["a"] == {"key": 1}
    with pytest.raises(InputError, match="returned a column 'key'"):
        found.frame()


def test_columns_of_several_types_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"int64 vs string\. A column holds one type: mend what returns several"):
        tr.map({"a": 1, "b": "text"}, lambda x: x, model=None, out=tmp_path / "out", batch=1)


def above(least: float) -> Any:
    return lambda x: x > least


class Adds:
    def __init__(self, number: Any = 1) -> None:
        self.number = number

    def __call__(self, x: Any) -> Any:
        return x + self.number

    def twice(self, x: Any) -> Any:
        return self(self(x))

    @functools.cached_property
    def negative(self) -> Any:
        return -self.number


def keyword_default(number: int) -> Any:
    def function(x: int, *, add: int = number) -> int:
        return x + add

    return function


def wrapped(function: Any, number: int) -> Any:
    @functools.wraps(function)
    def outer(x: Any) -> Any:
        return function(x) + number

    return outer


def recursive(number: int) -> Any:
    def function(x: int) -> int:
        return function(x - 1) if x else number

    return function


LEAST = 1


def above_least(x: float) -> bool:
    return x > LEAST


@pytest.mark.parametrize(
    "made",
    [
        Adds,
        lambda number: Adds(number).twice,
        lambda number: functools.partial(Adds.twice, Adds(number)),
        keyword_default,
        recursive,
        lambda number: wrapped(drawn, number),
        lambda number: above([number]),
        lambda number: above({"least": number}),
        lambda number: above(Adds(number)),
        lambda number: above(above(number)),
        lambda number: above(np.full(3000, number)),
        lambda number: above(torch.full((3000,), number).bfloat16()),
    ],
)
def test_what_a_function_holds_tells_it_apart(made: Any) -> None:
    assert settings_of_function(made(1)) == settings_of_function(made(1))
    assert settings_of_function(made(1)) != settings_of_function(made(2))


def test_numbers_among_globals_tell_functions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    first = settings_of_function(above_least)
    monkeypatch.setattr(f"{__name__}.LEAST", 2)
    assert settings_of_function(above_least) != first


def test_what_an_object_computed_once_does_not() -> None:
    adds = Adds(3)
    first = settings_of_function(adds)
    assert adds.negative == -3
    assert settings_of_function(adds) == first


def test_what_tells_functions_apart() -> None:
    first, second = settings_of_function(lambda x: x + 1), settings_of_function(lambda x: x + 2)
    assert first != second
    assert settings_of_function(lambda x: x + 1)["digest"] == first["digest"]
    assert settings_of_function(above(1)) != settings_of_function(above(2))
    assert settings_of_function(above(1)) == settings_of_function(above(1))
    assert settings_of_function(Adds()) == settings_of_function(Adds())
    bound = settings_of_function(functools.partial(drawn, source=3))
    assert bound["name"] == "drawn"
    assert bound["bound"] == ["source=3"]
    assert settings_of_function(len)["name"] == "len"
