from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.sample import Dataset, Sample, half

IMAGE = PIL.Image.new("RGB", (10, 6))


def test_halves_are_disjoint_interleaved_and_complete():
    keys = ("a", "b", "c", "d", "e")
    assert half(keys, 0) == ("a", "c", "e")
    assert half(keys, 1) == ("b", "d")


def test_half_refuses_another_part():
    with pytest.raises(InputError, match=r"part is 2, expected 0 .* or 1"):
        half(("a",), 2)  # type: ignore[arg-type]


def test_sample_keeps_what_fits():
    mask = np.zeros((6, 10), dtype=bool)
    sample = Sample("a", IMAGE, mask=mask, regions=(np.ones((6, 10), dtype=np.int64),), box=(0, 0, 9, 5))
    assert sample.mask is mask


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": np.zeros((10, 6), dtype=bool)}, r"mask of sample 'a' is bool \(10, 6\), expected bool_? \(6, 10\)"),
        ({"void": np.zeros((6, 10), dtype=np.uint8)}, "void of sample 'a' is uint8"),
        ({"labels": np.zeros((6, 10), dtype=np.int32)}, "labels of sample 'a' is int32"),
        ({"regions": (np.ones((6, 9), dtype=np.int64),)}, r"regions\[0\] of sample 'a'"),
        ({"box": (1, 2, 3)}, "expected x0, y0, x1, y1"),
    ],
)
def test_sample_refuses_arrays_that_do_not_fit(fields, message):
    with pytest.raises(InputError, match=message):
        Sample("a", IMAGE, **fields)


def test_sample_refuses_an_empty_key():
    with pytest.raises(InputError, match="key of a sample is empty"):
        Sample("", IMAGE)


def test_a_data_set_of_ones_own_needs_read_alone():
    class Own(Dataset):
        name, keys, problems = "own", ("a", "b"), {"c": "broken"}

        def read(self, key):
            return Sample(key, IMAGE)

    assert len(Own()) == 2
    assert repr(Own()) == "Own('own', 2 samples, 1 unusable)"
