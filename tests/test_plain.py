from __future__ import annotations

import enum
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenrank.errors import InputError
from tokenrank.plain import parquet_bytes, plain, utf8

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
)


class Kernel(enum.IntEnum):
    BOX = 4


@given(VALUES)
def test_all_of_it_is_json_and_a_second_time_changes_nothing(value: Any):
    made = plain(value)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert plain(made) == made
    json.dumps(made, ensure_ascii=False).encode()


@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False), st.integers(1, 17))
def test_digits(value: float, digits: int):
    short = plain(value, digits=digits)
    assert short == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits), abs=0) or math.isinf(short)
    assert plain(value) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.arange(3), [0, 1, 2]),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (torch.ones(2, 1, dtype=torch.bfloat16, requires_grad=True), [[1.0], [1.0]]),
        ((1, (2.0, None)), [1, [2.0, None]]),
        ({1: float("nan"), "caf\udce9": float("inf")}, {"1": None, "caf\\udce9": None}),
        (Kernel.BOX, 4),
    ],
)
def test_what_becomes_of_other_types(value: Any, expected: Any):
    made = plain(value)
    assert made == expected
    assert type(made) is type(expected)


def test_what_is_not_finite_may_stay():
    assert math.isnan(plain([np.nan], finite=False)[0])


def test_what_cannot_be_stored_is_named_or_given_away():
    with pytest.raises(InputError, match=r"a PosixPath cannot be stored|a WindowsPath cannot be stored"):
        plain({"a": [Path("x")]})
    assert plain({"a": [Path("x")]}, other=str) == {"a": ["x"]}


def test_rows_as_parquet():
    parquet = pytest.importorskip("pyarrow.parquet")
    content = parquet_bytes([{"a": 1, "b": utf8("\udce9")}, {"c": [1.5], "a": None}], {"made by": "nobody"})
    table = parquet.read_table(io.BytesIO(content))
    assert table.to_pylist() == [{"a": 1, "b": "\\udce9", "c": None}, {"a": None, "b": None, "c": [1.5]}]
    assert table.schema.metadata == {b"made by": b"nobody"}
    with pytest.raises(InputError, match="a column holds one type"):
        parquet_bytes([{"a": 1}, {"a": "one"}])
