"""Scores of batches in a folder, part by part, from which a second start goes on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .stages import Scores
from .variants import Variant


class Parts:
    """A folder of results, part by part; a part that is there is not computed again."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, known = folder, folder / "settings.json"
        if known.exists() and json.loads(known.read_text()) != settings:
            raise SystemExit(f"{folder} holds parts of other settings; delete it, or give another --out")
        known.write_text(json.dumps(settings))

    def scores(self, name: str, make: Callable[[], Scores]) -> Scores:
        """The scores of a part, computed by ``make`` where they are not there."""
        file = self.folder / f"{name}.npz"
        if not file.exists():
            made = make()
            keys = np.array([f"{variant} @ {noise}" for variant, noise in made])
            with file.with_suffix(".new").open("wb") as out:
                np.savez(out, keys=keys, values=np.stack([*made.values()]).astype(np.float32))
            file.with_suffix(".new").replace(file)
        held = np.load(file)
        keys = [key.rpartition(" @ ") for key in held["keys"].tolist()]
        return {(Variant.read(name), noise): row for (name, _, noise), row in zip(keys, held["values"], strict=True)}


def gathered(count: int, parts: Iterator[tuple[Sequence[int], Scores]]) -> Scores:
    """Scores of all mosaics from those of batches."""
    shape = (count, 2, 7)
    found: dict[tuple[Variant, str], np.ndarray] = defaultdict(lambda: np.full(shape, np.nan, np.float32))
    for places, scores in parts:
        for key, values in scores.items():
            found[key][list(places)] = values
    return dict(found)
