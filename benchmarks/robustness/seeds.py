"""Good files of every kind that a reader reads, small, each made by the library that usually writes it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: of the kind.
        file: its name, which decides on the reader of some.
        make: its bytes.
        reader: key of ``reading.READERS``.
        sealed: whether everything in it is under a checksum, so that a changed file gives an error or the same answer.
    """

    name: str
    file: str
    make: Callable[[Path], bytes]
    reader: str
    sealed: bool = False


def pixels(height: int = 40, width: int = 56) -> np.ndarray[Any, Any]:
    """A picture that is neither flat nor noise alone."""
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([rows * 3, columns * 2, rows + columns], -1) + np.random.default_rng(0).integers(
        0, 40, (height, width, 3)
    )
    return smooth.clip(0, 255).astype(np.uint8)


def _picture(form: str, mode: str = "RGB", **options: Any) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        stored = io.BytesIO()
        PIL.Image.fromarray(pixels()).convert(mode).save(stored, form, **options)
        return stored.getvalue()

    return make


def _mask(_: Path) -> bytes:
    stored = io.BytesIO()
    PIL.Image.fromarray((pixels()[..., 0] > 60).astype(np.uint8) * 255).save(stored, "PNG")
    return stored.getvalue()


def _labels(_: Path) -> bytes:
    stored = io.BytesIO()
    picture = PIL.Image.fromarray((pixels()[..., 0] // 20).astype(np.uint8), mode="P")
    picture.putpalette(bytes(range(256)) * 3)
    picture.save(stored, "PNG")
    return stored.getvalue()


def _matlab(compressed: bool) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        import scipy.io

        cells = np.empty((1, 3), dtype=object)
        for place, dtype in enumerate((np.uint16, np.uint8, np.float64)):
            labels = (pixels()[..., 0] // (20 + 30 * place) + 1).astype(dtype)
            cells[0, place] = {"Segmentation": labels, "Boundaries": np.zeros((2, 3), np.uint8)}
        stored = io.BytesIO()
        scipy.io.savemat(stored, {"groundTruth": cells}, do_compression=compressed)
        return stored.getvalue()

    return make


def _hdf5(folder: Path) -> bytes:
    import h5py

    path = folder / "seed.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        refs, kept = file.create_group("#refs#"), []

        def store(array: Any, **options: Any) -> Any:
            kept.append(refs.create_dataset(f"r{len(kept)}", data=array, **options))
            return kept[-1].ref

        def table(references: list[Any]) -> Any:
            made = np.empty((len(references), 1), dtype=h5py.ref_dtype)
            made[:, 0] = references
            return made

        picture, mask = pixels(), (pixels()[..., 0] > 60).astype(np.uint8)
        packed = {"compression": "gzip", "chunks": True}
        value = file.create_group("value")
        value["img"] = table([store(picture.transpose(2, 1, 0), **packed), store(picture.transpose(2, 1, 0))])
        value["gt"] = table([store(table([store(mask.T, **packed)])), store(table([store(mask.T)]))])
        value["id"] = table([store(np.array([[ord(c)] for c in "n0208"], np.uint16)) for _ in range(2)])
    return path.read_bytes()


def _parquet(_: Path) -> bytes:
    import pyarrow
    from pyarrow import parquet

    stored = io.BytesIO()
    images = [{"bytes": _picture("JPEG")(Path()), "path": f"{n}.jpg"} for n in range(4)]
    table = pyarrow.table({"image": images, "label": [0, 1, 2, 1], "box": [[0, 0, 9, 9]] * 4})
    parquet.write_table(table, stored, row_group_size=2, write_page_checksum=True)
    return stored.getvalue()


def _arrays() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    weights = generator.random((2, 5, 5))
    return {
        "one.q": generator.standard_normal((2, 5, 4)).astype(np.float32),
        "one.k": generator.standard_normal((2, 5, 4)).astype(np.float32),
        "two.weights": (weights / weights.sum(-1, keepdims=True)).astype(np.float32),
    }


def _npz(compressed: bool) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        stored = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(stored, **_arrays())
        return stored.getvalue()

    return make


def _tensors(_: Path) -> bytes:
    from safetensors.numpy import save

    return save(_arrays())


def _trace(folder: Path) -> bytes:
    import torch

    from tokenrank.layout import TokenLayout
    from tokenrank.recording import AttentionRecord, Forward
    from tokenrank.trace import Trace

    q, k, weights = (torch.from_numpy(array) for array in _arrays().values())
    records = [
        AttentionRecord("a", "A", "sdpa", 0, Forward(0), q, k, 0.5, torch.ones(5, dtype=torch.bool)),
        AttentionRecord("b", "B", "weights", 1, Forward(0), weights=weights),
    ]
    Trace(records, layout=TokenLayout.text(list("abcde"))).save(folder / "seed.trace")
    return (folder / "seed.trace").read_bytes()


def _sound(form: str, subtype: str | None = None) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        import soundfile

        stored = io.BytesIO()
        wave = np.sin(np.arange(8000) / 9) * np.linspace(0, 0.9, 8000)
        soundfile.write(stored, np.stack([wave, -wave / 2], 1), 16000, format=form, subtype=subtype)
        return stored.getvalue()

    return make


def _list(_: Path) -> bytes:
    return "\n".join(f"2007_{n:06d}" for n in range(60)).encode()


def _config(_: Path) -> bytes:
    return json.dumps(
        {"model_type": "vit", "hidden_size": 64, "id2label": {str(n): f"c{n}" for n in range(20)}}
    ).encode()


KINDS = (
    Kind("trace of ours", "a.safetensors", _trace, "trace", sealed=True),
    Kind("safetensors of others", "a.safetensors", _tensors, "trace"),
    Kind("npz", "a.npz", _npz(False), "trace", sealed=True),
    Kind("npz, compressed", "a.npz", _npz(True), "trace", sealed=True),
    Kind("MATLAB 5, compressed", "a.mat", _matlab(True), "regions"),
    Kind("MATLAB 5", "a.mat", _matlab(False), "regions"),
    Kind("MATLAB 7.3 (HDF5)", "gtsegs_ijcv.mat", _hdf5, "hdf5"),
    Kind("Parquet", "val.parquet", _parquet, "parquet"),
    Kind("PNG", "a.png", _picture("PNG"), "picture", sealed=True),
    Kind("PNG mask", "a.png", _mask, "mask", sealed=True),
    Kind("PNG labels", "a.png", _labels, "labels", sealed=True),
    Kind("JPEG", "a.jpg", _picture("JPEG"), "picture"),
    Kind("JPEG, progressive", "a.jpg", _picture("JPEG", progressive=True), "picture"),
    Kind("WebP", "a.webp", _picture("WEBP"), "picture"),
    Kind("WebP, lossless", "a.webp", _picture("WEBP", lossless=True), "picture"),
    Kind("GIF", "a.gif", _picture("GIF", "P"), "picture"),
    Kind("BMP", "a.bmp", _picture("BMP"), "picture"),
    Kind("PPM", "a.ppm", _picture("PPM"), "picture"),
    Kind("TIFF, LZW", "a.tif", _picture("TIFF", compression="tiff_lzw"), "picture"),
    Kind("TIFF, deflate", "a.tif", _picture("TIFF", compression="tiff_deflate"), "picture"),
    Kind("TIFF, JPEG", "a.tif", _picture("TIFF", compression="jpeg"), "picture"),
    Kind("TIFF, fax", "a.tif", _picture("TIFF", "1", compression="group4"), "picture"),
    Kind("JPEG 2000", "a.jp2", _picture("JPEG2000"), "picture"),
    Kind("AVIF", "a.avif", _picture("AVIF"), "picture"),
    Kind("WAV", "a.wav", _sound("WAV", "PCM_16"), "sound"),
    Kind("FLAC", "a.flac", _sound("FLAC"), "sound"),
    Kind("Ogg Vorbis", "a.ogg", _sound("OGG", "VORBIS"), "sound"),
    Kind("MP3", "a.mp3", _sound("MP3"), "sound"),
    Kind("AIFF", "a.aiff", _sound("AIFF"), "sound"),
    Kind("list of names", "val.txt", _list, "list"),
    Kind("config.json", "config.json", _config, "config"),
)
