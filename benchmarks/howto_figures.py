"""Pictures of the how-to pages: what their own code draws, taken out of the folder that it runs in.

python benchmarks/howto_figures.py [--out docs/figures/howto]
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import PIL.Image
import torch
from facts import parser

import tokenrank as tr

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tests import pages  # noqa: E402

WIDTH = 1200  # pixels
TAKEN = {
    "huggingface.md": ("board.png",),
    "language.md": ("bridge.png",),
    "own-method.md": ("methods.png",),
}


def small(picture: PIL.Image.Image) -> PIL.Image.Image:
    """As wide as a page shows it on a fine screen, in a palette of its own."""
    picture = picture.convert("RGB")
    picture.thumbnail((WIDTH, 10 * WIDTH))
    return picture.quantize(256)


def main() -> None:
    arguments = parser(__doc__, out=False)
    arguments.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "howto")
    out = arguments.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name, files in TAKEN.items():
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(tr.samples.path("chelsea"), Path(folder, "cat.jpg"))
            os.chdir(folder)
            sys.path.insert(0, folder)
            pages.run(ROOT / "docs" / "howto" / name, {})
            sys.path.remove(folder)
            for file in files:
                small(PIL.Image.open(file)).save(out / file, optimize=True)
                print(out / file)
            os.chdir(ROOT)


if __name__ == "__main__":
    main()
