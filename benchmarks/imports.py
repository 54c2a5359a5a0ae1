"""What the package adds to the import of PyTorch: from a fresh interpreter to the first bounce.

    python benchmarks/imports.py [--rounds 5] [--out benchmarks/results/imports.json]

Medians over fresh interpreters, in turns. ``python -X importtime -c "import tokenrank; tokenrank.AttentionChain"`` says
what takes how long.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from facts import facts, parser, save

STAGES = {
    "import torch": "import torch",
    "import tokenrank": "import torch, tokenrank",
    "AttentionChain": "import torch, tokenrank; tokenrank.AttentionChain",
    "first bounce": (
        "import torch, tokenrank; q, k = torch.randn(2, 4, 8, 4); tokenrank.AttentionChain.from_qk(q, k).bounce(0)"
    ),
}


def main() -> None:
    args = parser(__doc__, rounds=5).parse_args()
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for _ in range(args.rounds):
        for stage, script in STAGES.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", script], check=True)
            seconds[stage].append(time.perf_counter() - start)
    alone = median(seconds["import torch"])
    rows = [
        {"stage": stage, "seconds": round(median(taken), 2), "of_torch": round(median(taken) / alone, 2)}
        for stage, taken in seconds.items()
    ]
    for row in rows:
        print(f"{row['stage']:20} {row['seconds']:6.2f} s  {row['of_torch']:.2f} × import torch")
    save(args.out, facts() | {"rounds": args.rounds}, rows)


if __name__ == "__main__":
    main()
