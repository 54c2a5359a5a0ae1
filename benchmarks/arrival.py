"""Arrival beside all that needs no seed, and what each of its parts is worth: ECSSD, IoU at the mean threshold.

    python benchmarks/arrival.py DATA --model bundled --size 128 --rows ROWS --out benchmarks/results/arrival-….json

DATA holds ``images/`` and ``masks/`` under one name. The first 40 pictures are those on which arrival's settings were
chosen and are left out. TokenCut, LOST and Deep Spectral Methods are tried on keys, queries, values and block
outputs of the last three layers, and the best of these *on the pictures that are reported* is the one to beat. Rows are
kept as they come, so that a run that was cut off goes on. Seconds are of the processor, one thread: of arrival alone,
the second forward included, and of the first forward with what captures it.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from facts import facts, parser, save
from torch import Tensor

import tokenrank as tr
from tokenrank.baselines.controls import bounces_to_border, centred_gaussian, uniform_values
from tokenrank.baselines.graphs import deep_spectral_from_features, lost_from_features, tokencut_from_features
from tokenrank.chain.foreground import foreground
from tokenrank.evaluate.protocols.saliency import seed_of
from tokenrank.evaluate.statistics import compare
from tokenrank.observation import Observation
from tokenrank.tasks.arrival import around, geometric_mean, last_quarter
from tokenrank.tasks.halves import oriented, slow_mode
from tokenrank.tasks.strength import unjudged

DEVELOPMENT = 40
DEPTHS = (-1, -2, -3, -4)
Maps = dict[str, Tensor]


def ours(seen: Observation) -> Maps:
    """Arrival as it is, from other starts, and with one part of it changed at a time."""
    names = last_quarter(seen.layers)
    ranks = [seen.chain(name, "uniform").tokenrank().values.double() for name in seen.layers[-6:]]
    plain, start = geometric_mean(ranks[-len(names) :]), tr.tasks.arrival(seen, n=0).values

    def spread(values: Tensor, n: int = 2, **chain: Any) -> Tensor:
        walk = seen.features_chain(**chain).operator
        for _ in range(n):
            values = walk.matmul(values.double()[:, None])[:, 0]
        return values

    def arrival(**options: Any) -> Tensor:
        return tr.tasks.arrival(seen, **options).values

    half = 1 / seen.features_chain().operator.scale
    back = [seen.chain(m, "uniform").tokenrank(direction="backward").values.double() for m in names]
    backward = geometric_mean(back)
    found = {"arrival": arrival(), "arrival, start column": arrival(start="column")}
    if "cls" in seen.layout.spans:
        found["arrival, start cls"] = arrival(start="cls")
        found["arrival, start cls, last layer"] = arrival(start="cls", layer=-1)
        found["cls_row, last layer"] = tr.baselines.cls_row(seen, heads="uniform").values
    found["features alone"] = spread(torch.ones_like(start))
    found |= {f"n = {n}": spread(start, n) for n in (0, 1, 3, 4)}
    found |= {f"tau = {tau}": spread(start, tau=tau) for tau in (0.05, 0.1, 0.2)}
    found |= {f"tau = {share} spread": spread(start, tau=2 * share * half) for share in (0.25, 0.75, 1.0)}
    found |= {f"what = {what}": spread(start, what=what) for what in "kqv"}
    found["what = h, layer -2"] = spread(start, layer=-2)
    found["TokenRank with its peaks, not over backward; tau = 0.1"] = spread(plain, tau=0.1)
    found["TokenRank with its peaks, not over backward"] = spread(plain)
    found["TokenRank not over backward"] = arrival(backward=False)
    found["TokenRank with its peaks"] = spread(plain / backward)
    found["backward alone"] = spread(1 / backward)
    found |= {f"peaks at {p} medians": spread(cut(plain, p, seen.grid) / backward) for p in (1.0, 2.0, 3.0)}
    found |= {f"arrival of layer {d}": arrival(layer=d) for d in DEPTHS}
    found["arrival of the last 6 layers"] = arrival(layer=[*range(-6, 0)])
    found["arrival, heads by |λ2|"] = arrival(heads="lambda2")
    found["arithmetic mean"] = spread(cut(torch.stack(ranks[-len(names) :]).mean(0), 1.5, seen.grid) / backward)
    found["logarithms"] = spread(start.log())
    found |= {f"TokenRank alone, layer {d}": ranks[d] for d in DEPTHS[:3]}
    found["column sum alone, layer -3"] = seen.chain(-3, "uniform").operator.column_sums()
    return found


def cut(values: Tensor, most: float, grid: tuple[int, int]) -> Tensor:
    """``without_peaks`` at another number of medians."""
    return torch.minimum(values, most * around(values, grid))


def others(seen: Observation) -> Maps:
    """Cuts of similarity graphs, on every feature; slow modes; controls."""
    found: Maps = {}
    for what in "hkqv":
        for depth in DEPTHS[:3]:
            features = seen.features(depth, what)
            place = f"{what}, layer {depth}"
            found[f"tokencut, {place}"] = tokencut_from_features(features, seen.grid).values
            found[f"lost, {place}"] = lost_from_features(features, seen.grid).values
    for what in "hkv":
        found[f"deep_spectral, {what}, layer -2"] = deep_spectral_from_features(seen.features(-2, what))
    chain = seen.chain(-2, "uniform")
    mode = slow_mode(chain)
    for side in ("tokenrank", "border", "seed"):
        found[f"slow mode of layer -2, side {side}"] = oriented(mode, chain, side)
    alike = slow_mode(seen.features_chain())
    rank = geometric_mean([seen.chain(name, "uniform").tokenrank().values for name in last_quarter(seen.layers)])
    found["slow mode of the features, side tokenrank"] = alike if rank @ (alike - alike.mean()) >= 0 else -alike
    found |= {"centre": centred_gaussian(seen.grid), "lattice": bounces_to_border(*seen.grid)}
    found["random"] = uniform_values(len(seen.patches), len(seen.patches))
    return found


def seeded(seen: Observation, mask: np.ndarray) -> Maps:
    """Told where the object is: the bound."""
    row, column = seed_of(mask, *seen.grid)
    start = row * seen.grid[1] + column
    return {f"seed, n = {n}": seen.chain(-1, "uniform").bounce(start, n).values for n in (1, 2)}


def ious(maps: Tensor, grid: tuple[int, int], mask: np.ndarray) -> list[float]:
    """Of what is above the mean at the mask's resolution, bilinear; maps (M, P)."""
    layout = tr.TokenLayout.image(*grid, cls_tokens=0)
    wide = tr.TokenMap(maps, layout).upsample((int(mask.shape[0]), int(mask.shape[1]))).numpy()
    found = foreground(wide, axes=2)
    both, either = (found & mask).sum((1, 2)), (found | mask).sum((1, 2))
    return [round(float(value), 5) for value in both / np.maximum(either, 1)]


def one(model: tr.Model, size: int | None, image: Path, mask: np.ndarray) -> dict[str, Any]:
    with PIL.Image.open(image) as picture:
        seen = unjudged(tr.observe(picture.convert("RGB"), model, size=size))
    times = [time.process_time()]
    for step in (lambda: seen.head_chains(-1), lambda: tr.tasks.arrival(seen)):
        step()
        times.append(time.process_time())
    found = ours(seen) | seeded(seen, mask) | others(seen)
    scores = ious(torch.stack([values.double() for values in found.values()]), seen.grid, mask)
    forward, spread = round(times[1] - times[0], 4), round(times[2] - times[1], 4)
    return {"picture": image.stem, "forward": forward, "arrival": spread, "iou": dict(zip(found, scores, strict=True))}


def best(table: dict[str, np.ndarray], family: str) -> str:
    return max((name for name in table if name.startswith(family)), key=lambda name: table[name].mean())


def report(rows: list[dict[str, Any]], about: dict[str, Any], out: Path | None) -> None:
    """Print the tables of the rows that are there and write them."""
    names = [name for name in rows[0]["iou"] if all(name in row["iou"] for row in rows)]
    table = {name: np.array([row["iou"][name] for row in rows]) for name in names}
    rivals = {family: best(table, family) for family in ("tokencut", "lost", "deep_spectral")}
    about |= {"pictures": len(rows), "best": rivals}
    seconds = {part: float(np.median([row[part] for row in rows])) for part in ("forward", "arrival")}
    about["seconds"] = {part: round(value, 3) for part, value in seconds.items()}
    lines = []
    for name in names:
        line: dict[str, Any] = {"method": name, "iou": round(float(table[name].mean()), 4)}
        if name != "arrival":
            paired = compare(table["arrival"], table[name])
            d = paired.difference
            line |= {"arrival_minus": round(d.estimate, 4), "low": round(d.low, 4), "high": round(d.high, 4)}
            line |= {"p": float(f"{paired.p:.2g}"), "effect": round(paired.effect, 3)}
        lines.append(line)
    print(f"{about['model']}, {about['size']} px, {len(rows)} pictures; seconds {about['seconds']}\n")
    print("| method | IoU | arrival − it | p |\n|---|---|---|---|")
    for line in sorted(lines, key=lambda line: -line["iou"]):
        more = " | "
        if "p" in line:
            more = f"{line['arrival_minus']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}] | {line['p']:.0e}"
        print(f"| {line['method']} | {line['iou']:.3f} | {more} |")
    save(out, about, lines)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path, help="folder with images/ and masks/")
    arguments.add_argument("--model", default="bundled", help="what tr.load takes")
    arguments.add_argument("--name", help="of the model in the figures; --model where left out")
    arguments.add_argument("--size", type=int, help="long side in pixels; the model's own where left out")
    arguments.add_argument("--images", type=int, default=250, help="how many, from the 41st on")
    arguments.add_argument("--rows", type=Path, required=True, help="file for rows; those that it holds are not redone")
    arguments.add_argument("--only-report", action="store_true", help="of the rows that are there")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    pictures = sorted((args.data / "images").iterdir())[DEVELOPMENT:][: args.images]
    known = args.rows.read_text(encoding="utf-8").splitlines() if args.rows.exists() else []
    rows = {row["picture"]: row for row in map(json.loads, known)}
    todo = [] if args.only_report else [image for image in pictures if image.stem not in rows]
    model = tr.load(args.model) if todo else None
    for image in todo:
        assert model is not None
        with PIL.Image.open(args.data / "masks" / f"{image.stem}.png") as picture:
            mask = np.asarray(picture.convert("L")) > 127
        row = one(model, args.size, image, mask)
        rows[image.stem] = row
        with args.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    hidden = {args.data: "DATA", args.rows: "ROWS", args.model: args.name or args.model, "--only-report": ""}
    name = args.name or args.model
    about = facts(hidden=hidden) | {"model": name, "size": args.size or (model.images.size if model else None)}
    report([rows[image.stem] for image in pictures if image.stem in rows], about, args.out)


if __name__ == "__main__":
    main()
