"""What diffusion costs: guidance, DiffSeg, concept maps; each beside what it is compared with, in one run.

    python -m benchmarks.diffusion guidance diffseg concepts --out benchmarks/results/diffusion.json

Every part is a function of a module beside this one, ``cost() -> dict``, and figures are medians.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

PARTS = {"guidance": "guidance_cost", "diffseg": "diffseg_cost", "concepts": "concept_cost"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[*PARTS])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    for part in given.parts or PARTS:
        found[part] = import_module(f"benchmarks.{PARTS[part]}").cost()
        print(json.dumps({part: found[part]}, indent=1), flush=True)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
