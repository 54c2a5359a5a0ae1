"""The device path on a GPU: one call below nine minutes, every figure beside its floor and the paper's loop.

    python -m benchmarks.gpu --out benchmarks/results/gpu.json
    python -m benchmarks.gpu --small

Sections: rates of the device; which attention kernels take what; one application of A and Aᵀ in every way, with its
error against float64; TokenRank (to 1e-4 and 1e-6) and |λ2| of 12 × 1,024, 24 × 4,608, 24 × 16,384 and 24 × 65,536
tokens, from queries and keys in bfloat16 to the certificate; launches and waits. "The paper's loop" is dense: softmax,
G, and steps xᵀG until the true error of every head is below the tolerance, in float32, or in float64 where float32
cannot reach it; its time counts up to the step that reached it. The host's path is that of the processor, beside it.

A section has a share of ``--budget`` seconds, a failure is a row, and the file is whole after every row. ``--small``
runs every section on a CPU, on tiny chains, in a minute: it says that everything runs, not what it costs.

Exit codes: 0, all ran and is right; 1, a row failed, or an answer is outside of what it proves; 2, no GPU. Goals that
are missed are listed and change no exit code.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

import torch

from .device.answers import answers
from .device.applies import applies
from .device.floors import Floors
from .device.goals import judged
from .device.kernel_map import kernel_map
from .device.launches import launches
from .device.machine import machine
from .device.record import Record
from .device.sizes import SIZES, SMALL, Size
from .facts import facts, parser

BUDGET = 540.0
SECTIONS = {"machine": 0.06, "kernels": 0.1, "applies": 0.24, "answers": 0.5, "launches": 0.04}
"""Share of the budget; what is left of it is for the end."""


def main() -> None:
    options = parsed()
    if not torch.cuda.is_available() and not options.small:
        print("no CUDA device; --small runs every section on a CPU", file=sys.stderr)
        sys.exit(2)
    device = torch.device("cpu" if options.small else "cuda")
    torch.set_grad_enabled(False)
    about = facts("triton") | {
        "small": options.small,
        "budget": options.budget,
        "cudnn": torch.backends.cudnn.version(),
    }
    record = Record(options.out, facts("triton") | about, device, options.budget)
    run(record, SMALL if options.small else SIZES, options.only.split(",") if options.only else list(SECTIONS))
    sys.exit(told(record))


def parsed() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--small", action="store_true", help="tiny chains on a CPU")
    options.add_argument("--budget", type=float, default=BUDGET, help="seconds")
    options.add_argument("--only", default="", help=f"of {', '.join(SECTIONS)}; commas between")
    return options.parse_args()


def run(record: Record, sizes: tuple[Size, ...], wanted: list[str]) -> None:
    """All sections that are wanted; the rates always, since floors are made of them."""
    small, found = sizes == SMALL, list[Floors]()
    record.section("machine", SECTIONS["machine"], lambda record: found.append(machine(record, small)))
    if not found:
        return
    parts: dict[str, Any] = {
        "kernels": partial(kernel_map, floors=found[0], size=sizes[1], small=small),
        "applies": partial(applies, floors=found[0], sizes=sizes),
        "answers": partial(answers, floors=found[0], sizes=sizes),
        "launches": partial(launches, sizes=sizes),
    }
    for name, part in parts.items():
        if name in wanted:
            record.section(name, SECTIONS[name], part)


def told(record: Record) -> int:
    """Write the goals and the end; the exit code."""
    failed = [row["name"] for row in record.rows if "failed" in row]
    wrong = [row["name"] for row in record.rows if row.get("right") is False]
    goals = [] if record.about["small"] else judged(record.rows)
    record.about |= {"failed": failed, "wrong": wrong, "goals": goals}
    record.save()
    for goal in goals:
        value = "not measured" if goal["value"] is None else f"{goal['value']:.4g}"
        print(
            f"{'met' if goal['met'] else 'MISSED':7} {goal['name']}: {goal['field']} {value}, goal {goal['goal']:.4g}"
        )
    print(f"{len(failed)} failed, {len(wrong)} wrong, {len(record.rows)} rows")
    for name in (*failed, *wrong):
        print(f"  {name}")
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    main()
