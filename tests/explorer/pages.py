"""Small pages by hand: an index and its blob, and what a chain of them is in float64."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image

ROWS, COLUMNS, HEADS, SIZE = 4, 6, 3, 8
CLS = 1
COUNT = CLS + ROWS * COLUMNS
HALF = 0x392E
"""Scale of a row, the upper half of 1 / 6000 in single precision."""
SCALE = float(np.array([HALF << 16], "<u4").view("<f4")[0])


def tiny(
    seed: int = 0,
    layers: int = 3,
    stored: tuple[int, ...] = (1, 2),
    title: str = "tiny",
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> tuple[Any, list[bytes]]:
    """A picture of 4 × 6 patches behind CLS, or of other numbers, 3 heads of size 8 in each layer.

    Returns:
        The index of types.js, and the parts of the blob: picture and thumbnails, then one a stored layer.
    """
    count = CLS + rows * columns
    rng = np.random.default_rng(seed)
    picture = io.BytesIO()
    pixels = np.linspace(40, 220, 128 * 192).reshape(128, 192)
    Image.fromarray(np.stack([pixels, pixels[::-1], pixels[:, ::-1]], -1).astype("u1")).save(picture, "JPEG")
    first = _padded(picture.getvalue())
    thumbs, slices, found = [], [], []
    for number in range(layers):
        thumbs.append(_padded(rng.integers(0, 256, HEADS * rows * columns, dtype="u1").tobytes()))
        if number in stored:
            q = rng.integers(-9000, 9000, (HEADS, count, SIZE)).astype("<i2")
            k = rng.integers(-9000, 9000, (HEADS, count, SIZE)).astype("<i2")
            scale = np.full(HEADS * count + HEADS * count % 2, HALF, "<u2").tobytes()
            slices.append((number, _padded(q.tobytes() + k.tobytes() + 2 * scale)))
    at, places = len(first), {}
    for number, thumb in enumerate(thumbs):
        places[number] = [at, HEADS * rows * columns]
        at += len(thumb)
    parts = [first + b"".join(thumbs)]
    kept = {}
    for number, raw in slices:
        kept[number] = [at, len(raw)]
        at += len(raw)
        parts.append(raw)
    for number in range(layers):
        found.append(_layer(number, places[number], kept.get(number)))
    sheet = {
        "name": "a picture", "kind": "picture", "count": count, "words": [], "special": [0], "start": 9, "tokens": None,
        "spans": [{"name": "cls", "first": 0, "count": 1}, {"name": "image", "first": 1, "count": count - 1}],
        "grid": {"first": 1, "rows": rows, "columns": columns, "order": None},
        "picture": {
            "mime": "image/jpeg", "bytes": [0, len(picture.getvalue())], "width": 192, "height": 128,
            "note": "the whole picture, 192 × 128 pixels",
        },
        "steps": [{"step": 0, "timestep": None}], "layers": found,
    }  # fmt: skip
    index = {
        "format": "TRX1", "generator": "tokenrank 0", "title": title, "model": "a model", "alpha": 0.99, "bounces": 20,
        "python": ["obs = tr.observe('a.jpg')"], "cure": "tokenrank explore a.jpg --layers {layer} --heads {head}",
        "sheets": [sheet],
    }  # fmt: skip
    return index, parts


def walked(parts: list[bytes], layer: int, start: int, alpha: float, bounces: int, weights: list[float]) -> np.ndarray:
    """Maps after 0 … ``bounces`` steps forward, in float64, of the ``layer``-th stored layer."""
    raw, n = parts[1 + layer], HEADS * COUNT * SIZE
    q = np.frombuffer(raw, "<i2", n).reshape(HEADS, COUNT, SIZE) * SCALE
    k = np.frombuffer(raw, "<i2", n, 2 * n).reshape(HEADS, COUNT, SIZE) * SCALE
    scores = q @ k.transpose(0, 2, 1)
    weighed = np.exp(scores - scores.max(-1, keepdims=True))
    chain = np.einsum("h,hij->ij", np.array(weights), weighed / weighed.sum(-1, keepdims=True))
    maps = [np.eye(COUNT)[start]]
    for _ in range(bounces):
        maps.append(alpha * maps[-1] @ chain + (1 - alpha) / COUNT)
    return np.stack(maps)


def _layer(number: int, thumbs: list[int], bytes_: list[int] | None) -> dict[str, Any]:
    heads = [
        {"lambda2": round(0.5 + 0.1 * head, 2), "certificate": "proved", "bound": 1e-9, "entropy": 3.5, "sinks": [0],
         "held": 0.2, "kept": bytes_ is not None}
        for head in range(HEADS)
    ]  # fmt: skip
    stored = None if bytes_ is None else {
        "kind": "qk", "type": "int16", "bytes": bytes_, "size": SIZE, "heads": list(range(HEADS)), "keyHeads": HEADS,
        "causal": False, "errors": {"entry": 8.3e-5, "bounce": 9.2e-5, "tokenrank": 7.5e-5},
    }  # fmt: skip
    chain = {
        "lambda2": 0.8, "certificate": "checked", "unique": True, "groups": None,
        "spectrum": [{"real": 1.0, "imaginary": 0.0, "certificate": "proved", "residual": 1e-15},
                     {"real": 0.8, "imaginary": 0.0, "certificate": "checked", "residual": 1e-12}],
        "classes": None, "mixture": {"weights": [0.5, 0.3, 0.2]},
    }  # fmt: skip
    return {
        "name": f"layer {number}", "number": number, "step": 0, "heads": heads, "thumbs": thumbs, "stored": stored,
        "chain": chain if stored else None,
    }  # fmt: skip


def _padded(raw: bytes) -> bytes:
    return raw + bytes(math.ceil(len(raw) / 16) * 16 - len(raw))
