"""Strength of what the tasks find in pictures without structure, beside photographs: does the threshold separate them?

    python benchmarks/nothing_there.py --out benchmarks/results/nothing_there.json
    python benchmarks/nothing_there.py --photographs FOLDER --model NAME --size 224

Without structure: one colour, ramps, noise of each pixel by itself, checkerboards and stripes finer than a patch,
blurred noise. Photographs: the four of the package, whole and in halves, or those of a folder. A row states how the
strengths of a task are spread in both groups, and how many lie below the threshold that the tasks warn at.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from facts import facts, parser, save
from PIL import Image, ImageFilter

import tokenrank as tr
from tokenrank.errors import NothingThereWarning, NotUniqueWarning
from tokenrank.tasks.strength import FAINT

SIZES = ((192, 192), (160, 240))  # height, width
COLOURS = {"black": 0, "white": 255, "grey": 128, "red": (200, 30, 30), "blue": (120, 170, 230), "olive": (90, 100, 40)}


def without_structure(height: int, width: int, seed: int = 0) -> Iterator[tuple[str, str, Image.Image]]:
    """Kind, name and picture."""
    random, one = np.random.default_rng(seed), np.ones((height, width, 3))
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    for name, colour in COLOURS.items():
        yield "one colour", name, picture(one * colour)
    for name, slope in {"across": x, "down": y, "diagonal": (x + y) / 2}.items():
        yield "ramp", f"{name}, black to white", picture(255 * slope * one)
        yield "ramp", f"{name}, soft", picture((100 + 56 * slope) * one)
    yield "ramp", "sky", picture((1 - y) * (90, 140, 230) + y * (230, 220, 200))
    yield "noise", "even", picture(random.uniform(0, 255, (height, width, 3)))
    yield "noise", "even, grey", picture(random.uniform(0, 255, (height, width, 1)) * one)
    for spread in (8, 40):
        yield "noise", f"normal, {spread}", picture(128 + random.normal(0, spread, (height, width, 3)))
    for step in (1, 2, 4):
        down, across = np.arange(height)[:, None, None] // step % 2, np.arange(width)[:, None] // step % 2
        yield "finer than a patch", f"checkerboard of {step}", picture(255 * (down ^ across) * one)
        yield "finer than a patch", f"stripes of {step}", picture(255 * across * one)
    for radius in (1, 2, 4, 8):
        soft = picture(random.uniform(0, 255, (height, width, 3))).filter(ImageFilter.GaussianBlur(radius))
        values = np.asarray(soft, dtype=float) - np.asarray(soft, dtype=float).mean((0, 1))
        yield "blurred noise", f"radius {radius}", picture(128 + 40 * values / values.std())


def photographs(folder: Path | None, most: int) -> Iterator[tuple[str, str, Image.Image]]:
    """Those of the package, whole and its four halves; or some of a folder, evenly taken."""
    if folder is not None:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".jpeg", ".png"))
        for path in files[:: -(-len(files) // most)]:
            yield "photograph", path.name, Image.open(path).convert("RGB")
        return
    for name in tr.samples.names():
        whole = Image.open(tr.samples.path(name)).convert("RGB")
        w, h = whole.size
        boxes = {"whole": (0, 0, w, h), "left": (0, 0, w // 2, h), "right": (w // 2, 0, w, h)}
        boxes |= {"upper": (0, 0, w, h // 2), "lower": (0, h // 2, w, h)}
        for part, box in boxes.items():
            yield "photograph", f"{name}, {part}", whole.crop(box)


def picture(values: np.ndarray) -> Image.Image:
    """Values from 0 to 255, clipped and rounded."""
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


ASKED: dict[str, Callable[[tr.Observation], float | None]] = {
    "saliency": lambda seen: tr.tasks.saliency(seen).strength,
    "saliency, slow": lambda seen: tr.tasks.saliency(seen, how="slow").strength,
    "saliency, tokenrank": lambda seen: tr.tasks.saliency(seen, how="tokenrank").strength,
    "segment, from the centre": lambda seen: tr.tasks.segment(seen).strength,
    "cluster, merge": lambda seen: tr.tasks.cluster(seen).strength,
    "cluster, two states": lambda seen: tr.tasks.cluster(seen, how="metastable", k=2).strength,
    "tokencut": lambda seen: tr.baselines.tokencut(seen, layer=-1, what="k").strength,
    "lost": lambda seen: tr.baselines.lost(seen).strength,
}


def rows(model: tr.models.Model, size: int | None, folder: Path | None, most: int) -> Iterator[dict[str, Any]]:
    made = [entry for height, width in SIZES for entry in without_structure(height, width)]
    for kind, name, image in [*made, *photographs(folder, most)]:
        seen = tr.observe(image, model=model, size=size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingThereWarning)
            warnings.simplefilter("ignore", NotUniqueWarning)
            found = {task: ask(seen) for task, ask in ASKED.items()}
        yield {"kind": kind, "picture": name, "size": list(image.size), **found}


def table(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a task and kind: how many pictures, how strengths are spread, the share below the threshold."""
    kinds = dict.fromkeys(row["kind"] for row in found)
    for task in ASKED:
        for kind in kinds:
            values = np.array([row[task] for row in found if row["kind"] == kind], dtype=float)
            spread = {f"{q:g}": float(np.quantile(values, q)) for q in (0, 0.1, 0.5, 0.9, 1)}
            below = float((values < FAINT).mean())
            yield {"task": task, "kind": kind, "pictures": len(values), **spread, "below": below}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="bundled")
    options.add_argument("--size", type=int, help="long side that the model gets; its own where not given")
    options.add_argument("--photographs", type=Path, help="folder; the package's four where not given")
    options.add_argument("--most", type=int, default=50, help="photographs of the folder")
    given = options.parse_args()
    found = []
    for row in rows(tr.load(given.model), given.size, given.photographs, given.most):
        found.append(row)
        print(f"{row['kind']:20} {row['picture'][:28]:28}", *(f"{row[task]:6.2f}" for task in ASKED), flush=True)
    spread = list(table(found))
    print(f"\n{'task':26}{'kind':20}{'n':>4}", *(f"{q:>6}" for q in ("0", "10 %", "50 %", "90 %", "1", "below")))
    for row in spread:
        numbers = (row[q] for q in ("0", "0.1", "0.5", "0.9", "1", "below"))
        print(f"{row['task']:26}{row['kind']:20}{row['pictures']:4}", *(f"{number:6.2f}" for number in numbers))
    hidden = {given.photographs: "PHOTOGRAPHS", given.model: "MODEL" if Path(given.model).exists() else given.model}
    save(given.out, {**facts(hidden=hidden), "model": given.model, "threshold": FAINT}, [*spread, *found])


if __name__ == "__main__":
    main()
