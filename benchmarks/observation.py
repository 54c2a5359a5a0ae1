"""What one observation holds: a picture of 518 pixels at patch 14, 1,370 tokens, observed, ranked and bounced.

    python benchmarks/observation.py [--size 518] [--out benchmarks/results/observation.json]

A network of DINOv2-small's shape with random weights (12 layers, 6 heads). Peak resident memory of the process after
each stage; the first is that of the libraries and the weights.
"""

from __future__ import annotations

import resource
import time

import torch
from facts import facts, parser, save
from transformers import Dinov2Config, Dinov2Model

import tokenrank as tr


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, default=518, help="pixels of a side, a multiple of 14")
    args = arguments.parse_args()
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=args.size, patch_size=14)
    module, rows = Dinov2Model(config).eval(), []
    start = time.monotonic()

    def stage(name: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append({"stage": name, "seconds": round(time.monotonic() - start, 2), "peak_gib": round(peak, 3)})
        print(f"{name:36} {rows[-1]['seconds']:7.2f} s  peak {peak:.2f} GiB")

    stage("libraries and weights")
    seen = tr.observe(module, inputs=torch.rand(1, 3, args.size, args.size))
    tokens = seen.head_chains(tokens="all").num_tokens
    stage("forward")
    for layer in seen.layers:
        chain = seen.chain(layer)
        chain.tokenrank(), chain.bounce(tr.at(0.4, 0.6), 2)
    stage("|λ2|, TokenRank, n = 2 of all layers")
    tr.analyze(seen)
    stage("analyze")
    save(args.out, facts() | {"tokens": tokens, "layers": len(seen.layers), "threads": torch.get_num_threads()}, rows)


if __name__ == "__main__":
    main()
