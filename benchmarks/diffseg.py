"""Does a TokenRank grid improve DiffSeg? Grids of anchors on pictures with known segments, at the same distance.

    python -m benchmarks.diffseg DATA --dinov2 FOLDER --flux FOLDER [--images K] [--out FILE]

DATA holds ``coco``, ``ecssd`` and ``bsds500``; the folders are networks: DINOv2-small, and the small FLUX of
``training/text_to_image``, which sees a picture with little noise and an empty prompt. Of each data set as many
pictures as ``IMAGES`` says, drawn by a fixed seed; K at most.

Layers are joined evenly with their heads, as in DiffSeg, and anchors are 8 × 8: one in 12 tokens or so, where the paper
has one in 16. The distance of merging is chosen for the *uniform* grid, by covering on the pictures at even places, and
all grids are compared at it on those at odd places; beside that, each grid at the distance that suits it best. What a
picture's segments are scored by: covering, and mean IoU and accuracy after a Hungarian matching to the classes, with
spare segments given to absent classes as in DiffSeg ("miou") and left without one ("miou_strict"). Of BSDS500 the
regions of each annotator are classes, and their figures are averaged. Pictures are scored at 256 pixels on the long
side.

Controls: blocks, a grid of as many rectangles as the uniform grid finds segments. Beside the grids: groups that the
walk rarely leaves (PCCA+), and recursive normalised cuts of the walk at a threshold chosen as the distances are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

import tokenrank as tr
from benchmarks.diffseg_summary import summaries
from benchmarks.facts import facts, save
from tokenrank.baselines.concepts.cuts import segments
from tokenrank.errors import require
from tokenrank.evaluate.datasets import open_dataset
from tokenrank.evaluate.datasets.sample import Labels, Sample
from tokenrank.evaluate.metrics.hungarian import Spare, accuracy, match, miou
from tokenrank.evaluate.metrics.regions import covering
from tokenrank.evaluate.protocols.segmenters import parse_segmenters
from tokenrank.tasks.anchors import AnchorGrid, metastable_grid, tokenrank_grid, uniform_grid
from tokenrank.tasks.cluster import from_proposals, joined_chain
from tokenrank.tasks.masks import grid_of
from tokenrank.tasks.merging import merge, symmetric_kl

DATA = {"coco": "coco-panoptic", "ecssd": "ecssd", "bsds500": "bsds500"}
CLASSES = {"coco": 200, "ecssd": 2}
IMAGES = {"coco": 100, "ecssd": 40, "bsds500": 40}
GRIDS: tuple[AnchorGrid, ...] = (
    "uniform", "tokenrank-top", "tokenrank-nms", "tokenrank-sample", "tokenrank-cells", "metastable",
)  # fmt: skip
ANCHORS = 8
TAUS = (0.3, 0.45, 0.6, 0.8, 1.1)
CUTS = (0.4, 0.6)
SPARE: dict[str, Spare] = {"": "assigned", "_strict": "unassigned"}
SCORED, SEED = 256, 0
NOISE = 0.1


@dataclass
class Network:
    """A network and how it looks at a picture."""

    model: Any
    size: int
    options: dict[str, Any] = field(default_factory=dict)

    def observe(self, picture: PIL.Image.Image) -> tr.Observation:
        return tr.observe(picture, self.model, size=self.size, **self.options)


def networks(dinov2: Path | None, flux: Path | None) -> dict[str, Network]:
    """Name → network, of those that are given."""
    found = {}
    if dinov2:
        found["dinov2-small"] = Network(tr.load(dinov2, kind="image"), 448)
    if flux:
        pipe = require("diffusers", "diffusers").DiffusionPipeline.from_pretrained(flux, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        call = {"max_sequence_length": 12}
        found["flux"] = Network(pipe, 128, {"prompt": "", "noise": NOISE, "seed": SEED, "call": call})
    return found


def divided(chain: tr.AttentionChain, size: tuple[int, int]) -> Iterator[tuple[str, float, Labels]]:
    """Method, its distance or threshold, and labels from 0 at ``size``; of every method in turn."""
    shape, maps = grid_of(chain), chain.to_dense()
    states, rank = chain.metastable(), chain.tokenrank().values
    memberships = states.values[:, : int(states.count)]
    for grid in GRIDS:
        if grid == "uniform":
            anchors = uniform_grid(*shape, ANCHORS)
        elif grid == "metastable":
            anchors = metastable_grid(memberships, shape, ANCHORS)
        else:
            anchors = tokenrank_grid(rank, shape, ANCHORS, grid)
        distances = symmetric_kl(maps[anchors], maps)
        for tau in TAUS:
            proposals = merge(maps, anchors, tau, distances=distances)
            labels = from_proposals(proposals, shape, size).labels - 1
            yield grid, tau, labels
            if grid == "uniform":
                blocks = parse_segmenters(f"blocks:k={labels.max() + 1}")[0]
                yield "blocks", tau, blocks.run(None, size, None)  # type: ignore[arg-type]  # looks at nothing
    yield "groups", 0.0, from_proposals(memberships.mT, shape, size).labels - 1
    for cut in CUTS:
        parts = F.one_hot(segments(maps, cut)).double().mT
        yield "cuts", cut, from_proposals(parts, shape, size).labels - 1


def scores(found: Labels, truths: Sequence[Labels], classes: int | None) -> dict[str, Any]:
    """Figures of one picture; means over annotators, and the counts that a data set sums where classes have names."""
    covered = [covering(found[truth >= 0][None], [truth[truth >= 0][None]]) for truth in truths]
    row: dict[str, Any] = {"segments": int(found.max()) + 1, "covering": float(np.mean(covered))}
    for name, spare in SPARE.items():
        matches = [match(found, truth, classes or int(truth.max()) + 1, spare) for truth in truths]
        row[f"miou{name}"] = float(np.mean([miou(one) for one in matches]))
        row["accuracy"] = float(np.mean([accuracy(one) for one in matches]))
        if classes:
            row[f"counts{name}"] = matches[0]
    return row


def truths_of(sample: Sample, size: tuple[int, int]) -> list[Labels]:
    """Segments by hand at ``size``, nearest neighbour: labels from 0, and −1 where unlabelled."""
    if sample.regions:
        given = [region - 1 for region in sample.regions]
    else:
        given = [sample.labels if sample.labels is not None else sample.mask.astype(np.int64)]  # type: ignore[union-attr]
    rows, columns = (np.arange(n) * own // n for n, own in zip(size, given[0].shape, strict=True))
    return [labels[rows[:, None], columns] for labels in given]


def picture_rows(network: Network, sample: Sample, classes: int | None) -> list[dict[str, Any]]:
    """One row a method and distance."""
    image = sample.image.convert("RGB")
    image.thumbnail((SCORED, SCORED), PIL.Image.Resampling.BICUBIC)
    size = image.height, image.width
    truths = truths_of(sample, size)
    observation = network.observe(sample.image)
    chain = joined_chain(observation, observation.layers, "uniform")
    return [
        {"key": sample.key, "method": method, "at": at, **scores(labels, truths, classes)}
        for method, at, labels in divided(chain, size)
    ]


def chosen_keys(keys: Sequence[str], count: int) -> list[str]:
    """``count`` keys drawn by the seed, in their order."""
    drawn = np.random.default_rng(SEED).permutation(len(keys))[:count]
    return [keys[i] for i in sorted(drawn)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--dinov2", type=Path)
    arguments.add_argument("--flux", type=Path)
    arguments.add_argument("--images", type=int, default=max(IMAGES.values()))
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    about: dict[str, Any] = facts(hidden={given.data: "DATA", given.dinov2: "DINOV2", given.flux: "FLUX"})
    about |= {"anchors": ANCHORS, "noise": NOISE, "scored_at": SCORED, "taus": TAUS}
    for name, network in networks(given.dinov2, given.flux).items():
        for data, kind in DATA.items():
            start, rows = time.monotonic(), []
            dataset = open_dataset(kind, given.data / data)
            for key in chosen_keys(dataset.keys, min(given.images, IMAGES[data])):
                rows += picture_rows(network, dataset.read(key), CLASSES.get(data))
            run, found = summaries(rows)
            run |= {"size": network.size, "seconds": round(time.monotonic() - start, 1), "command": about["command"]}
            print(name, data, {k: v for k, v in run.items() if k != "everywhere"}, flush=True)
            keep(given.out, about, name, data, run, found)


def keep(
    out: Path | None,
    about: Mapping[str, Any],
    network: str,
    data: str,
    run: dict[str, Any],
    found: list[dict[str, Any]],
) -> None:
    """Write what was found, beside what the file has of other networks and data sets."""
    before = json.loads(out.read_text(encoding="utf-8")) if out and out.exists() else {"runs": {}, "rows": []}
    others = [row for row in before["rows"] if (row["network"], row["data"]) != (network, data)]
    lines = [*others, *({"network": network, "data": data, **line} for line in found)]
    save(out, {**about, "runs": {**before["runs"], f"{network} {data}": run}}, lines)


if __name__ == "__main__":
    main()
