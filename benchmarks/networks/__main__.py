"""``python -m benchmarks.networks NAME OUT``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from tokenrank.errors import InputError, NotFoundError, TokenRankError, nearest

from . import __doc__ as about
from . import clip_vit_b16, dinov2_small, minilm, smollm2_135m, toy, whisper_tiny_en
from .frame import Network, make

NETWORKS: dict[str, Network] = {
    module.NETWORK.name: module.NETWORK
    for module in (dinov2_small, clip_vit_b16, whisper_tiny_en, minilm, smollm2_135m)
}
NAMES = (*NETWORKS, toy.NAME)


def maker(name: str, wheel: Path | None) -> Callable[[Path], str]:
    """What writes a network into a new folder and returns what was compared.

    Raises:
        NotFoundError: no network of that name. InputError: a wheel for one that needs none.
    """
    if name == toy.NAME:
        if wheel is not None:
            raise InputError(f"network {name!r} needs no wheel; leave --wheel out")
        return toy.make
    if name not in NETWORKS:
        raise NotFoundError(f"no network {name!r}; {nearest(name, NAMES, len(NAMES))}")
    return partial(make, NETWORKS[name], wheel=wheel)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 where nothing was written."""
    parser = argparse.ArgumentParser("python -m benchmarks.networks", description=about,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("name", help=", ".join(NAMES))
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--wheel", type=Path, help="the package's file, where it was fetched before")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        finding = maker(args.name, args.wheel)(args.out)
    except TokenRankError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {finding}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
