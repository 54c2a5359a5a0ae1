"""Small files that become large, and what reading each takes: memory beyond what was held, seconds, and the answer.

    python benchmarks/robustness/bombs.py [--only NAME] [--before FILE] [--out FILE]

Under the budget that holds by default (1 GiB), in a process that may take 3 GiB. Memory is that of the process that
reads, or of the one apart that it asks, whichever takes more. Linux only.

``--before`` names the figures of an earlier version, made by this script with its ``src`` in PYTHONPATH; they stand
beside the others.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apart
import numpy as np
import PIL.Image
from reading import READERS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from facts import facts, parser, save

MEMORY = 3 * 2**30
_BLOCK = bytes(2**20)


def npz(path: Path) -> None:
    """One array of 1.25 GB, all zeros."""
    stored = io.BytesIO()
    np.lib.format.write_array_header_1_0(stored, {"descr": "<f4", "fortran_order": False, "shape": (1250, 500, 500)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.weights.npy", "w") as member:
        member.write(stored.getvalue())
        _zeros(member.write, 1_250_000_000)


def matlab(path: Path) -> None:
    """A segmentation of 40,000 × 40,000 bytes, all zeros."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    def start(kind: int, shape: tuple[int, ...], name: bytes = b"") -> bytes:
        return (
            element(6, struct.pack("<II", kind, 0))
            + element(5, struct.pack(f"<{len(shape)}i", *shape))
            + element(1, name)
        )

    side = 40_000
    numbers = start(9, (side, side)) + struct.pack("<II", 2, side * side)
    struct_of = start(2, (1, 1)) + element(5, struct.pack("<i", 16)) + element(1, b"Segmentation".ljust(16, b"\0"))
    cell = start(1, (1, 1), b"groundTruth")
    length = len(numbers) + side * side
    head = b""
    for outer in (struct_of, cell):
        head = outer + struct.pack("<II", 14, length) + head
        length += len(outer) + 8
    packer = zlib.compressobj()
    packed = io.BytesIO()
    packed.write(packer.compress(struct.pack("<II", 14, length) + head + numbers))
    _zeros(lambda block: packed.write(packer.compress(block)), side * side)
    packed.write(packer.flush())
    top = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(top + struct.pack("<II", 15, packed.tell()) + packed.getvalue())


def hdf5(path: Path) -> None:
    """A picture of 40,000 × 40,000 that is declared, in chunks of which none is stored."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        picture = refs.create_dataset("a", shape=(3, 40_000, 40_000), dtype=np.uint8, chunks=(1, 1000, 1000))
        mask = refs.create_dataset("b", data=np.zeros((2, 2), np.uint8))
        cell = refs.create_dataset("c", data=np.array([[mask.ref]], dtype=h5py.ref_dtype))
        word = refs.create_dataset("d", data=np.array([[110]], np.uint16))
        for name, node in (("img", picture), ("gt", cell), ("id", word)):
            file[f"value/{name}"] = np.array([[node.ref]], dtype=h5py.ref_dtype)


def png(width: int, height: int, depth: int) -> Callable[[Path], None]:
    """A black picture."""

    def make(path: Path) -> None:
        def chunk(name: bytes, content: bytes) -> bytes:
            return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

        head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
        rows = zlib.compress(bytes((1 + (depth * width + 7) // 8) * height), 9)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))

    return make


def webp(path: Path) -> None:
    """144 million pixels of one colour."""
    PIL.Image.new("RGB", (12_000, 12_000)).save(path, "WEBP", lossless=True, method=0, quality=0)


def tiff(path: Path) -> None:
    """400 million pixels of one bit."""
    PIL.Image.new("1", (20_000, 20_000)).save(path, "TIFF", compression="tiff_deflate")


def scans(path: Path) -> None:
    """A progressive JPEG of 36 million pixels whose last scan stands in it 3,000 times."""
    stored = io.BytesIO()
    PIL.Image.new("L", (6_000, 6_000), 90).save(stored, "JPEG", progressive=True)
    data = stored.getvalue()
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:last] + data[last:-2] * 3_000 + data[-2:])


def parquet(path: Path) -> None:
    """800 rows that name one value of a million bytes."""
    import pyarrow
    from pyarrow import parquet as writer

    indices = pyarrow.array(np.zeros(800, np.int32))
    image = pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([bytes(1_000_000)], pyarrow.binary()))
    table = pyarrow.table({"image": image, "label": pyarrow.array(np.zeros(800, np.int64))})
    writer.write_table(table, path, compression="zstd", store_schema=False)


def groups(path: Path) -> None:
    """1.2 GB in one group of rows, plainly stored and compressed."""
    import pyarrow
    from pyarrow import parquet as writer

    schema = pyarrow.schema([("image", pyarrow.binary()), ("label", pyarrow.int64())])
    with writer.ParquetWriter(path, schema, compression="zstd", use_dictionary=False, write_statistics=False) as sink:
        one = pyarrow.table({"image": [bytes(60_000_000)], "label": [0]}, schema=schema)
        sink.write_table(pyarrow.concat_tables([one] * 20), row_group_size=20)


def flac(path: Path) -> None:
    """Eight channels of an hour at 96 kHz, declared; a second is there."""
    import soundfile

    soundfile.write(path, np.zeros((96_000, 8), np.float32), 96_000, format="FLAC")
    data = bytearray(path.read_bytes())
    declared = 3_599 * 96_000
    data[21] = (data[21] & 0xF0) | (declared >> 32)
    data[22:26] = struct.pack(">I", declared & 0xFFFFFFFF)
    path.write_bytes(data)


def manifest(path: Path) -> None:
    """A trace whose description is 80 MB of empty lists."""
    text = '{"crc32":0,"records":[' + ",".join(["[]"] * 27_000_000) + '],"version":1}'
    head = json.dumps({"__metadata__": {"tokenrank": text}, "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})
    path.write_bytes(struct.pack("<Q", len(head)) + head.encode() + b"\0")


def holes(path: Path) -> None:
    """A tensor of 100 GB in a file that is a hole."""
    size = 100_000_000_000
    head = json.dumps({"a.weights": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + size)


def brackets(path: Path) -> None:
    """100 MB of opening brackets."""
    path.write_bytes(b"[" * 100_000_000)


def digits(path: Path) -> None:
    """A number of 5 million digits."""
    path.write_bytes(b'{"model_type": ' + b"7" * 5_000_000 + b"}")


BOMBS: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "npz of 1.25 GB of zeros": ("a.npz", "trace", npz),
    "MATLAB 5, 1.6 GB of zeros": ("a.mat", "regions", matlab),
    "HDF5, declared and unstored": ("gtsegs_ijcv.mat", "hdf5", hdf5),
    "PNG of 88 megapixels": ("a.png", "picture", png(9_381, 9_381, 1)),
    "mask of 177 megapixels": ("a.png", "mask", png(13_304, 13_304, 8)),
    "labels of 177 megapixels": ("a.png", "labels", png(13_304, 13_304, 8)),
    "WebP of 144 megapixels": ("a.webp", "picture", webp),
    "TIFF of 400 megapixels": ("a.tif", "picture", tiff),
    "JPEG of 3,000 scans": ("a.jpg", "picture", scans),
    "Parquet, one value in 800 rows": ("val.parquet", "parquet", parquet),
    "Parquet, 1.2 GB in a group": ("val.parquet", "parquet", groups),
    "FLAC, an hour declared": ("a.flac", "sound", flac),
    "trace, 80 MB of empty lists": ("a.safetensors", "trace", manifest),
    "safetensors, 100 GB of holes": ("a.safetensors", "trace", holes),
    "JSON, 100 MB of brackets": ("config.json", "config", brackets),
    "JSON, five million digits": ("config.json", "config", digits),
}


def _zeros(write: Callable[[bytes], Any], count: int) -> None:
    while count:
        write(_BLOCK[:count])
        count -= min(count, len(_BLOCK))


def measure(name: str, folder: Path) -> dict[str, Any]:
    """The row of a bomb."""
    file, reader, make = BOMBS[name]
    path = folder / "-".join(name.replace(",", "").split()) / file
    path.parent.mkdir()
    apart.SECONDS = 600.0
    ((_, told),) = apart.run(lambda _: make(path), [0], MEMORY)
    assert path.exists(), told
    apart.SECONDS = 60.0

    def call(_: int) -> list[Any]:
        try:
            READERS[reader](path)
            return ["read", ""]
        except Exception as error:
            return [type(error).__name__, str(error).replace(str(path.parent), "…")[:300]]

    def warm() -> None:
        """Imports, and the process apart, so that they are not counted."""
        small = folder / "small" / file
        small.parent.mkdir(exist_ok=True)
        small.write_bytes(b"x" * 64)
        with contextlib.suppress(Exception):
            READERS[reader](small)
        small.unlink()

    ((_, told),) = apart.run(call, [0], MEMORY, warm)
    about = path.stat()
    path.unlink()
    row = {"bomb": name, "bytes": about.st_size, "on disk": min(about.st_size, 512 * about.st_blocks)}
    if "value" not in told:
        return {**row, "answer": f"signal {told['end']}" if "end" in told else told["error"][0]}
    answer, words = told["value"]
    return {
        **row,
        "answer": answer,
        "words": words,
        "seconds": round(told["seconds"], 2),
        "mib": round(told["bytes"] / 2**20),
    }


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--only", help="one bomb")
    options.add_argument("--before", type=Path, help="figures of an earlier version")
    given = options.parse_args()
    rows = []
    earlier = {row["bomb"]: row for row in json.loads(given.before.read_text())["rows"]} if given.before else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in [given.only] if given.only else BOMBS:
            rows.append(measure(name, Path(folder)))
            if name in earlier:
                rows[-1]["before"] = {
                    k: v for k, v in earlier[name].items() if k in ("answer", "words", "seconds", "mib")
                }
            print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    about = facts("safetensors", "soundfile", hidden={given.before: "BEFORE"} if given.before else None)
    save(given.out, about, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
