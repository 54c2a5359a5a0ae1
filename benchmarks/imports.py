"""What the package adds to the import of PyTorch: from a fresh interpreter to the first answers, and to the help.

    python benchmarks/imports.py [--rounds 5] [--out benchmarks/results/imports.json]

Medians over fresh interpreters, in turns; ratios are of processor time, which other work on the machine does not
change. "dynamo": whether torch._dynamo, which takes as long as torch itself, was loaded on the way. Exit code 1 where
`import tokenrank` beside PyTorch takes more than 1.5 times PyTorch, or the help of the command more than 0.3 s.
``python -X importtime -c "import tokenrank; tokenrank.AttentionChain"`` says what takes how long.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from statistics import median

from facts import facts, parser, save

CHAIN = "import torch, tokenrank; q, k = torch.randn(2, 4, 8, 4); chain = tokenrank.AttentionChain.from_qk(q, k)"
HELP = """
import contextlib
from tokenrank.cli import main
with contextlib.suppress(SystemExit): main(["--help"])"""
LAYER = "torch.nn.MultiheadAttention(8, 2, batch_first=True)"
STAGES = {
    "import torch": "import torch",
    "tokenrank --help": HELP,
    "import tokenrank": "import torch, tokenrank",
    "AttentionChain": "import torch, tokenrank; tokenrank.AttentionChain",
    "first bounce": f"{CHAIN}; chain.bounce(0)",
    "first TokenRank and |λ2|": f"{CHAIN}; chain.tokenrank(), chain.lambda2()",
    "first capture": (
        f"import torch, tokenrank; layer, x = {LAYER}, torch.randn(1, 4, 8)\n"
        "with tokenrank.capture(layer): layer(x, x, x)"
    ),
}
MOST_OF_TORCH, MOST_FOR_HELP = 1.5, 0.3
LAST = "\nimport sys; print('torch._dynamo' in sys.modules)"


def processor_time() -> float:
    """Seconds of processor that the children of this process have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    args = parser(__doc__, rounds=5).parse_args()
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    busy: dict[str, list[float]] = {stage: [] for stage in STAGES}
    dynamo: dict[str, bool] = {}
    for _ in range(args.rounds):
        for stage, script in STAGES.items():
            start, before = time.perf_counter(), processor_time()
            ran = subprocess.run([sys.executable, "-c", script + LAST], check=True, capture_output=True, text=True)
            seconds[stage].append(time.perf_counter() - start)
            busy[stage].append(processor_time() - before)
            dynamo[stage] = ran.stdout.splitlines()[-1] == "True"
    alone = median(busy["import torch"])
    rows = [
        {
            "stage": stage,
            "seconds": round(median(taken), 2),
            "of_torch": round(median(busy[stage]) / alone, 2),
            "dynamo": dynamo[stage],
        }
        for stage, taken in seconds.items()
    ]
    for row in rows:
        with_dynamo = "  with torch._dynamo" if row["dynamo"] else ""
        print(f"{row['stage']:26} {row['seconds']:6.2f} s  {row['of_torch']:.2f} × import torch{with_dynamo}")
    save(args.out, facts() | {"rounds": args.rounds}, rows)
    if median(busy["import tokenrank"]) > MOST_OF_TORCH * alone or median(busy["tokenrank --help"]) > MOST_FOR_HELP:
        sys.exit(f"more than {MOST_OF_TORCH} times PyTorch, or more than {MOST_FOR_HELP} s for the help")


if __name__ == "__main__":
    main()
