"""TokenRank and loudness, appended silence, and word times after bounces: speech read by a Whisper model.

    python benchmarks/speech.py FILES… --model FOLDER [--limit 30] [--out FILE]

Every file is one clip (its first ``--limit`` seconds, at most what the model reads). Heads are mixed evenly, padding is
left out.

loudness: Spearman's ρ of a map over frames with the loudness of its 20 ms (dB), and the AUC of frames louder than half
way between the 5th and the 95th percentile of the clip. Loudness itself is the truth, and a detector of energy would be
perfect by construction; what is asked is how much of it the attention alone tells. Rivals: the column mean, n bounces;
control: the same network with random weights.

silence: five seconds of four kinds put into the clip (zeros after it, its quietest 0.2 s looped, noise of −60 dB, zeros
in the middle); the share of the map's mass there, over an even share.

words: cross-attention from words to frames, as it is and after bounces through an encoder layer, or blurred by a
Gaussian of 160 ms (control): mass inside the word, whether the largest frame is inside, error of the median in ms. Word
times are those of a .TextGrid beside the file (tier "word" or "words"), whose words are then what is said; otherwise
those that the model's own alignment heads give, which favours these heads by construction.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facts import facts, parser, save
from scipy.ndimage import gaussian_filter1d
from scipy.stats import rankdata, spearmanr, wilcoxon
from torch import Tensor

import tokenrank as tr
from tokenrank.models import read_sound

Rows = list[dict[str, Any]]
STEP = 0.02  # seconds a frame
SILENCE = 5.0
EARLY = (0, 1)  # layers that are asked about silence
TINY_EN = ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4))
"""Alignment heads of tiny.en, of openai/whisper's table; for folders whose generation_config names none."""


@dataclass(frozen=True)
class Timed:
    text: str
    begin: float
    end: float


def layers(model: tr.Model, sound: tr.Sound, which: Sequence[int] | None = None) -> list[tr.AttentionChain]:
    """Encoder layers, each as one chain over the frames of the sound: heads mixed evenly, padding left out."""
    features = model.sounds.inputs(sound, model.name)["input_features"]
    encoder = model.module.get_encoder()
    with torch.no_grad(), tr.capture(encoder, layers=which, layout=False) as trace:
        encoder(features)
    frames = len(sound.loudness(STEP))
    mixed = (record.to_dense()[0, :, :frames, :frames].double().mean(0) for record in trace.records)
    return [tr.AttentionChain(weights / weights.sum(-1, keepdim=True)) for weights in mixed]


def maps(chain: tr.AttentionChain) -> dict[str, np.ndarray]:
    a = chain.to_dense()
    even = torch.full((1, len(a)), 1 / len(a), dtype=torch.float64)
    found = {"column mean": even @ a, "n = 2": even @ a @ a, "n = 8": even @ torch.linalg.matrix_power(a, 8)}
    found |= {"TokenRank": chain.tokenrank().values, "backward": chain.tokenrank(direction="backward").values}
    return {name: values.reshape(-1).numpy() for name, values in found.items()}


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    ranks, n = rankdata(score), int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def loudness_rows(clip: str, network: str, sound: tr.Sound, chains: Sequence[tr.AttentionChain]) -> Rows:
    db = sound.loudness(STEP).numpy()
    loud = db > np.percentile(db, [5, 95]).mean()
    return [
        {"part": "loudness", "clip": clip, "network": network, "layer": layer, "map": name,
         "rho": float(spearmanr(values, db)[0]), "auc": auc(values, loud)}
        for layer, chain in enumerate(chains)
        for name, values in maps(chain).items()
    ]  # fmt: skip


def silences(sound: tr.Sound) -> Iterator[tuple[str, tr.Sound, slice]]:
    """Kind, the sound with silence in it, and which samples that is."""
    x, rate = sound.samples, sound.rate
    count, middle = round(SILENCE * rate), len(x) // 2
    window = round(0.2 * rate)
    quiet = int(torch.nn.functional.avg_pool1d(x.square()[None, None], window, 1)[0, 0].argmin())
    loop = x[quiet : quiet + window].repeat(count // window + 1)[:count]
    noise = torch.randn(count, generator=torch.Generator().manual_seed(0)) * 1e-3
    after = slice(len(x), len(x) + count)
    yield "zeros", tr.Sound(torch.cat([x, x.new_zeros(count)]), rate), after
    yield "room", tr.Sound(torch.cat([x, loop]), rate), after
    yield "noise", tr.Sound(torch.cat([x, noise]), rate), after
    yield (
        "inside",
        tr.Sound(torch.cat([x[:middle], x.new_zeros(count), x[middle:]]), rate),
        slice(middle, middle + count),
    )


def silence_rows(clip: str, model: tr.Model, sound: tr.Sound) -> Rows:
    if sound.seconds + SILENCE > model.sounds.longest:
        sound = tr.Sound(sound.samples[: round((model.sounds.longest - SILENCE) * sound.rate)], sound.rate)
    rows: Rows = []
    for kind, longer, where in silences(sound):
        first, last = (round(place / longer.rate / STEP) for place in (where.start, where.stop))
        for layer, chain in zip(EARLY, layers(model, longer, EARLY), strict=True):
            for name, values in maps(chain).items():
                share = values[first:last].sum() / ((last - first) / len(values))
                rows.append({"part": "silence", "clip": clip, "kind": kind, "layer": layer, "map": name,
                             "of_even": float(share)})  # fmt: skip
    return rows


def textgrid(path: Path) -> list[Timed]:
    """The words of a TextGrid, long or short; of its tier "word" or "words"."""
    text = re.sub(r"\[\d*\]", "", path.read_text(encoding="utf-8"))
    tokens = iter(re.findall(r'"(?:[^"]|"")*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?', text))
    header = [next(tokens) for _ in range(5)]
    for _ in range(int(header[4])):
        kind, name = next(tokens), next(tokens).strip('"').lower()
        next(tokens), next(tokens)
        width = 3 if "Interval" in kind else 2
        entries = [[next(tokens) for _ in range(width)] for _ in range(int(next(tokens)))]
        if name.endswith(("word", "words")):
            named = ((begin, end, label.strip('"').strip()) for begin, end, label in entries)
            return [Timed(label, float(b), float(e)) for b, e, label in named if label.lower() not in ("", "sp", "sil")]
    raise SystemExit(f"{path.name} has no tier of words")


def judge(rows: Tensor, words: Sequence[Timed]) -> dict[str, float]:
    """Of maps (words, frames): means over words."""
    inside, hit, errors = [], [], []
    for row, word in zip((rows / rows.sum(-1, keepdim=True)).numpy(), words, strict=True):
        first, last = int(word.begin / STEP), max(int(word.begin / STEP) + 1, round(word.end / STEP))
        inside.append(row[first:last].sum())
        hit.append(first <= row.argmax() < last)
        middle = int((row.cumsum() < 0.5).sum())
        errors.append(abs(middle * STEP - (word.begin + word.end) / 2) * 1000)
    return {"inside": float(np.mean(inside)), "hit": float(np.mean(hit)), "error_ms": statistics.median(errors)}


def word_rows(clip: str, model: tr.Model, sound: tr.Sound, path: Path, heads: Sequence[tuple[int, int]]) -> Rows:
    grid = path.with_suffix(".TextGrid")
    known = textgrid(grid) if grid.is_file() else None
    said = None if known is None else " ".join(word.text.lower() for word in known).capitalize()
    observation = tr.observe(sound, model=model, said=said)
    found = [Timed(w.text, w.begin, w.end) for w in tr.tasks.word_times(observation, heads)]
    if known is not None and len(found) != len(known):
        raise SystemExit(f"{grid.name} has {len(known)} words, the tokens {len(found)}")
    words = found if known is None else known
    rows: Rows = []
    for which, chosen in (("alignment heads", heads), ("all heads", None)):
        cross = observation.cross(chosen).weights if chosen else observation.cross(ALL(model)).weights
        shown = {"as it is": cross}
        blurred = gaussian_filter1d(cross.numpy(), 0.16 / STEP, axis=-1)
        shown["Gaussian 160 ms"] = torch.from_numpy(blurred)
        for layer in range(len(observation.layers)):
            dense = observation.chain(layer, "uniform").to_dense().double()
            for n in (1, 2):
                shown[f"layer {layer}, n = {n}"] = cross @ torch.linalg.matrix_power(dense, n)
        rows += [{"part": "words", "clip": clip, "words": len(words), "reference": "TextGrid" if known else "own heads",
                  "heads": which, "map": name, **judge(m, words)} for name, m in shown.items()]  # fmt: skip
    if known is not None:
        off = [abs(a.begin - b.begin) * 1000 for a, b in zip(found, known, strict=True)]
        rows.append({"part": "warping", "clip": clip, "words": len(words), "start_error_ms": statistics.median(off)})
    return rows


def ALL(model: tr.Model) -> list[tuple[int, int]]:  # noqa: N802
    config = model.module.config
    return [(i, h) for i in range(config.decoder_layers) for h in range(config.decoder_attention_heads)]


def randomised(model: tr.Model) -> tr.Model:
    """The same network with the weights that its class begins with; what is fixed (positions) stays."""
    torch.manual_seed(0)
    fresh = type(model.module)(model.module.config).eval()
    return tr.Model("random", fresh, "audio", tokenizer=model.tokenizer, sounds=model.sounds)


def summary(rows: Rows) -> list[str]:
    lines = ["loudness: mean over clips of ρ / AUC; clips on which TokenRank has the larger ρ than the column mean"]
    for network in ("trained", "random"):
        mine = [r for r in rows if r["part"] == "loudness" and r["network"] == network]
        for layer in sorted({r["layer"] for r in mine}):
            by = {
                n: [r for r in mine if r["layer"] == layer and r["map"] == n]
                for n in dict.fromkeys(r["map"] for r in mine)
            }
            means = "  ".join(f"{n} {np.mean([r['rho'] for r in g]):+.2f}/{np.mean([r['auc'] for r in g]):.2f}"
                              for n, g in by.items())  # fmt: skip
            ahead = [a["rho"] - b["rho"] for a, b in zip(by["TokenRank"], by["column mean"], strict=True)]
            p = wilcoxon(ahead).pvalue if len(ahead) > 5 else float("nan")
            lines.append(f"{network} layer {layer}: {means}  ahead {sum(d > 0 for d in ahead)}/{len(ahead)}, p {p:.1e}")
    lines.append("silence: share of the map there over an even share, mean; clips with TokenRank below the column mean")
    mine = [r for r in rows if r["part"] == "silence"]
    for layer in sorted({r["layer"] for r in mine}):
        for kind in dict.fromkeys(r["kind"] for r in mine):
            by = {n: [r["of_even"] for r in mine if (r["layer"], r["kind"], r["map"]) == (layer, kind, n)]
                  for n in dict.fromkeys(r["map"] for r in mine)}  # fmt: skip
            below = sum(a < b for a, b in zip(by["TokenRank"], by["column mean"], strict=True))
            means = "  ".join(f"{n} {np.mean(v):.2f}" for n, v in by.items())
            lines.append(f"layer {layer} {kind}: {means}  below {below}/{len(by['TokenRank'])}")
    lines.append("words: mean over clips of mass inside the word / hit / error of the median in ms")
    mine = [r for r in rows if r["part"] == "words"]
    for reference in dict.fromkeys(r["reference"] for r in mine):
        for heads in dict.fromkeys(r["heads"] for r in mine):
            for name in dict.fromkeys(r["map"] for r in mine):
                g = [r for r in mine if (r["reference"], r["heads"], r["map"]) == (reference, heads, name)]
                means = [np.mean([r[k] for r in g]) for k in ("inside", "hit", "error_ms")]
                lines.append(f"{reference}, {heads}, {name}: {means[0]:.3f} / {means[1]:.2f} / {means[2]:.0f}")
    return lines


def options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("files", nargs="+", type=Path)
    made.add_argument("--model", required=True)
    made.add_argument("--limit", type=float, default=30.0, help="seconds of each file")
    return made.parse_args()


def main() -> None:
    given = options()
    model = tr.load(given.model)
    random = randomised(model)
    named = getattr(model.module.generation_config, "alignment_heads", None)
    heads = [(int(a), int(b)) for a, b in named] if named else list(TINY_EN)
    rows: Rows = []
    for path in given.files:
        sound = read_sound(path, part=(0, min(given.limit, model.sounds.longest))).resampled(model.sounds.rate)
        rows += loudness_rows(path.stem, "trained", sound, layers(model, sound))
        rows += loudness_rows(path.stem, "random", sound, layers(random, sound))
        rows += silence_rows(path.stem, model, sound)
        rows += word_rows(path.stem, model, sound, path, heads)
        print(f"{path.stem}: {sound.seconds:.1f} s", flush=True)
        hidden = {str(file): file.stem for file in given.files} | {given.model: "FOLDER"}
        save(given.out, facts("transformers", "soundfile", hidden=hidden) | {"summary": summary(rows)}, rows)
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
