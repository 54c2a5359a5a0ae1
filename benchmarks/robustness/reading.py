"""What reads each kind: the library's reader, and the parser beneath it without the library around."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = list[Any]


def digest(values: Iterable[Any]) -> str:
    """A digest of arrays, tensors, pictures and words, by type, shape and content."""
    made = hashlib.sha256()
    for value in values:
        array = np.asarray(value)
        made.update(f"{array.dtype} {array.shape} ".encode())
        made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


def _picture(path: Path) -> Arrays:
    from tokenrank.models import read_image

    picture = read_image(path)
    assert picture.mode == "RGB"
    return [picture]


def _mask(path: Path) -> Arrays:
    from tokenrank.evaluate.datasets.masks import read_mask

    mask = read_mask(path)
    assert mask.dtype == np.bool_
    assert mask.ndim == 2
    return [mask]


def _labels(path: Path) -> Arrays:
    from tokenrank.evaluate.datasets.masks import read_labels

    labels = read_labels(path)
    assert labels.dtype == np.int64
    assert labels.ndim == 2
    return [labels]


def _regions(path: Path) -> Arrays:
    from tokenrank.evaluate.datasets.bsds500 import read_regions

    regions = read_regions(path)
    for labels in regions:
        assert labels.dtype == np.int64
        assert labels.ndim == 2
        assert np.array_equal(np.unique(labels), np.arange(1, labels.max() + 1))
    return list(regions)


def _data_set(name: str) -> Callable[[Path], Arrays]:
    def read(path: Path) -> Arrays:
        from tokenrank.evaluate.datasets import open_dataset

        dataset, found = open_dataset(name, path.parent), []
        for key in dataset.keys[:8]:
            sample = dataset.read(key)
            found += [
                sample.image,
                sample.mask if sample.mask is not None else 0,
                sample.target or 0,
                sample.word or "",
            ]
        return found

    return read


def _trace(path: Path) -> Arrays:
    from tokenrank.trace import load_trace

    trace = load_trace(path)
    trace.summary()
    return [part for record in trace.records for part in (record.name, *record.tensors.values())]


def _sound(path: Path) -> Arrays:
    from tokenrank.models import read_sound

    sound = read_sound(path)
    assert bool(sound.samples.isfinite().all())
    return [sound.samples, sound.rate]


def _list(path: Path) -> Arrays:
    from tokenrank.evaluate.datasets.folder import read_keys

    return read_keys(path)


def _config(path: Path) -> Arrays:
    from tokenrank.models.load import _model_type

    return [str(_model_type(path.parent, "folder"))]


READERS: dict[str, Callable[[Path], Arrays]] = {
    "picture": _picture,
    "mask": _mask,
    "labels": _labels,
    "regions": _regions,
    "hdf5": _data_set("imagenet-segmentation"),
    "parquet": _data_set("parquet"),
    "trace": _trace,
    "sound": _sound,
    "list": _list,
    "config": _config,
}


def _bare_picture(path: Path) -> Arrays:
    import PIL.Image

    with PIL.Image.open(path) as picture:
        return [picture.convert("RGB")]


def bare_matlab(path: Path) -> Arrays:
    """Segmentations as SciPy reads them."""
    import scipy.io

    return [np.asarray(cell["Segmentation"][0, 0]) for cell in scipy.io.loadmat(path)["groundTruth"].flat]


def _bare_hdf5(path: Path) -> Arrays:
    import h5py

    with h5py.File(path, "r") as file:
        found: Arrays = []
        for number in range(2):
            found.append(np.asarray(file[file["value/img"][number, 0]]))
            found.append(np.asarray(file[file[file["value/gt"][number, 0]][()].flat[0]]))
        return found


def _bare_parquet(path: Path) -> Arrays:
    from pyarrow import parquet

    return [str(row) for row in parquet.read_table(path).to_pylist()]


def _bare_arrays(path: Path) -> Arrays:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return [arrays[name] for name in arrays]
    from safetensors.numpy import load_file

    return list(load_file(path).values())


def _bare_sound(path: Path) -> Arrays:
    import soundfile

    return [soundfile.read(path)[0]]


BARE: dict[str, Callable[[Path], Arrays]] = {
    "picture": _bare_picture,
    "mask": _bare_picture,
    "labels": _bare_picture,
    "regions": bare_matlab,
    "hdf5": _bare_hdf5,
    "parquet": _bare_parquet,
    "trace": _bare_arrays,
    "sound": _bare_sound,
}
