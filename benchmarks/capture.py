"""What capture costs: forward with and without it, ViT-S at 224 pixels, random weights.

    python benchmarks/capture.py [--batch 1 8] [--rounds 30] [--out capture.json]

The variants run in turn within each round. A ratio is the median over rounds of variant / baseline
in the same round, so that a slow spell of the machine falls on both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import ViTConfig, ViTModel

from tokenrank.trace import Trace, capture


def build(attention: str) -> ViTModel:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, image_size=224
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    model.set_attn_implementation(attention)
    return model


def variants(batch: int) -> dict[str, tuple[str, Callable[[], object]]]:
    """Name → (name of its baseline, what to run)."""
    sdpa, eager = build("sdpa"), build("eager")
    pixels = torch.randn(batch, 3, 224, 224)

    def captured(model: ViTModel, **options: object) -> Trace:
        with capture(model, **options) as trace:
            model(pixels)
        return trace

    return {
        "sdpa": ("sdpa", lambda: sdpa(pixels)),
        "sdpa, capture all layers": ("sdpa", lambda: captured(sdpa)),
        "sdpa, capture one layer": ("sdpa", lambda: captured(sdpa, layers="layers.8")),
        "sdpa, capture in half": ("sdpa", lambda: captured(sdpa, dtype=torch.float16)),
        "eager": ("eager", lambda: eager(pixels)),
        "eager, capture all layers": ("eager", lambda: captured(eager)),
        "eager, output_attentions": ("eager", lambda: eager(pixels, output_attentions=True)),
        "sdpa to eager, output_attentions": ("sdpa", lambda: eager(pixels, output_attentions=True)),
    }


def measure(batch: int, rounds: int) -> list[dict[str, object]]:
    runs = variants(batch)
    times: dict[str, list[float]] = {name: [] for name in runs}
    kept: dict[str, int] = {}
    for round_number in range(-2, rounds):  # two rounds to warm up
        for name, (_, run) in runs.items():
            start = time.perf_counter()
            result = run()
            elapsed = time.perf_counter() - start
            if round_number >= 0:
                times[name].append(elapsed)
            kept[name] = kept_bytes(result)
            del result
    return [
        {
            "batch": batch,
            "variant": name,
            "milliseconds": 1e3 * statistics.median(times[name]),
            "over": baseline,
            "percent": 100 * (statistics.median(a / b for a, b in zip(times[name], times[baseline], strict=True)) - 1),
            "kept_mib": kept[name] / 2**20,
        }
        for name, (baseline, _) in runs.items()
    ]


def kept_bytes(result: object) -> int:
    if isinstance(result, Trace):
        return sum(record.nbytes for record in result.records)
    return sum(weights.nbytes for weights in getattr(result, "attentions", None) or ())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        rows = [row for batch in options.batch for row in measure(batch, options.rounds)]
    print(f"{'batch':>5}  {'variant':34}{'ms':>8}  {'over baseline':>14}  {'kept MiB':>8}")
    for row in rows:
        percent = "" if row["variant"] == row["over"] else f"{row['percent']:+.1f} %"
        print(
            f"{row['batch']:>5}  {row['variant']:34}{row['milliseconds']:8.1f}  {percent:>14}  {row['kept_mib']:8.1f}"
        )
    if options.out:
        about = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
            "rounds": options.rounds,
            "model": "ViT-S/16, 224 px, 12 layers, 6 heads",
        }
        options.out.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
