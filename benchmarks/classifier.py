"""A classifier on a network without one: a linear layer on CLS, trained on Tiny-ImageNet's training pictures.

    python benchmarks/classifier.py features NETWORK DATA CACHE --minutes 12
    python benchmarks/classifier.py head NETWORK DATA CACHE
    python benchmarks/classifier_masking.py NETWORK DATA CACHE --images 1000 --runs RUNS --out FOLDER

NETWORK is a folder that ``python -m benchmarks.networks`` wrote, DATA that of Tiny-ImageNet's shards. The first command
keeps what CLS and the mean of the patches are after the last layer, for 2,048 validation pictures and for as many
training pictures as the time allows; started again it goes on. The second trains the layer, prints its accuracy on the
validation pictures, and writes it to CACHE. Pictures are stretched from 64 to 112 pixels, 8 × 8 patches of 14.

The network's linear layers multiply in bfloat16, four times faster on a processor that has it; everything else,
attention included, is float32. ``classifier`` returns it with its layer, for ``benchmarks/classifier_masking.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from facts import parser
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tokenrank as tr
from tokenrank.evaluate.datasets import open_dataset
from tokenrank.evaluate.protocols.observe import squeezed

SIDE = 112
CLASSES = 200
PART = 1024
"""Pictures in a file of the cache."""
VALIDATION = 2 * PART
"""So many of the 5,000 validation pictures, whose order is shuffled."""
BATCH = 64
SHRINKAGES = (0.03, 0.1, 0.2, 0.3, 0.5)
HEAD = "head.safetensors"


class RoundedLinear(nn.Linear):
    """A linear layer that multiplies in bfloat16 and returns what it was given, float32; unless ``exactly()``."""

    exact: ClassVar[bool] = False

    @classmethod
    def of(cls, linear: nn.Linear) -> RoundedLinear:
        made = cls(linear.in_features, linear.out_features, linear.bias is not None)
        made.load_state_dict(linear.state_dict())
        made.short = [None if p is None else p.detach().bfloat16() for p in (made.weight, made.bias)]
        return made

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.exact else F.linear(x.bfloat16(), *self.short).float()


@contextmanager
def exactly(exact: bool = True) -> Iterator[None]:
    """While active, linear layers multiply in float32 (or, where False, in bfloat16 again)."""
    before, RoundedLinear.exact = RoundedLinear.exact, exact
    try:
        yield
    finally:
        RoundedLinear.exact = before


def network(folder: Path) -> tr.Model:
    """The network of a folder, its linear layers in bfloat16."""
    model = tr.load(folder)
    linears = [name for name, module in model.module.named_modules() if type(module) is nn.Linear]
    for name in linears:
        model.module.set_submodule(name, RoundedLinear.of(model.module.get_submodule(name)))
    return replace(model, module=model.module.eval().requires_grad_(False))


def classifier(folder: Path, cache: Path) -> tr.Model:
    """``network`` with the layer that was trained on its CLS."""
    tensors = load_file(cache / HEAD)
    return replace(network(folder), head=lambda output: logits(output.last_hidden_state[:, 0], tensors))


def logits(cls: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    return F.linear(cls, tensors["weight"], tensors["bias"])


# ---- features


def keep_features(model: tr.Model, data: Path, cache: Path, minutes: float) -> None:
    """Files of PART pictures each: features (n, 2 d), label (n,); the validation split first."""
    end = time.monotonic() + 60 * minutes
    cache.mkdir(parents=True, exist_ok=True)
    for split in ("val", "train"):
        dataset = open_dataset("parquet", data, split=split)
        most = VALIDATION if split == "val" else len(dataset)
        for number, begin in enumerate(range(0, most, PART)):
            file = cache / f"{split}-{number:03d}.safetensors"
            if file.exists():
                continue
            if split == "train" and time.monotonic() > end:
                return
            samples = map(dataset.read, dataset.keys[begin : begin + PART])
            features, labels = zip(*_batches(model, samples), strict=True)
            unfinished = file.with_suffix(".part")
            save_file({"features": torch.cat(features), "label": torch.cat(labels)}, unfinished)
            unfinished.rename(file)
            print(file.name, f"{end - time.monotonic():.0f} s left", flush=True)


def _batches(model: tr.Model, samples: Iterator) -> Iterator[tuple[Tensor, Tensor]]:
    while some := list(islice(samples, BATCH)):
        inputs = [model.prepare(squeezed(sample.image, SIDE), size=SIDE) for sample in some]
        pixels = torch.cat([one["pixel_values"] for one in inputs])
        state = model.forward({**inputs[0], "pixel_values": pixels}).last_hidden_state
        yield torch.cat([state[:, 0], state[:, 1:].mean(1)], -1), torch.tensor([sample.target for sample in some])


def kept(cache: Path, split: str) -> tuple[Tensor, Tensor]:
    """All kept features (n, 2 d) and labels (n,) of a split."""
    files = sorted(cache.glob(f"{split}-*.safetensors"))
    if not files:
        raise SystemExit(f"no features of split {split!r} in {cache}; run: python benchmarks/classifier.py features …")
    parts = [load_file(file) for file in files]
    return torch.cat([part["features"] for part in parts]), torch.cat([part["label"] for part in parts])


# ---- the linear layer


def trained(features: Tensor, label: Tensor, shrinkage: float) -> dict[str, Tensor]:
    """Linear discriminant analysis: log p(class | x) of Gaussians that share one covariance, which is drawn towards a
    multiple of the identity (Friedman 1989, "Regularized Discriminant Analysis", γ). With the few dozen pictures a
    class that there are here it is ahead of multinomial regression.
    """
    x = features.double()
    means = torch.stack([x[label == k].mean(0) for k in range(CLASSES)])
    rest = x - means[label]
    covariance = rest.T @ rest / len(rest)
    even = covariance.trace() / len(covariance) * torch.eye(len(covariance), dtype=torch.float64)
    factor = torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * even)
    weight = torch.cholesky_solve(means.T, factor).T
    return {"weight": weight.float().contiguous(), "bias": -(weight * means).sum(1).float() / 2}


def accuracy(features: Tensor, label: Tensor, tensors: dict[str, Tensor]) -> float:
    return float((logits(features, tensors).argmax(-1) == label).double().mean())


def known(data: Path, cache: Path) -> tuple[str, ...]:
    """Keys of the validation pictures that the classifier knows, among those with kept features."""
    features, label = kept(cache, "val")
    right = logits(features[:, : features.shape[-1] // 2], load_file(cache / HEAD)).argmax(-1) == label
    keys = open_dataset("parquet", data, split="val").keys
    return tuple(key for key, yes in zip(keys, right.tolist(), strict=False) if yes)


def train_head(cache: Path) -> None:
    """The shrinkage is chosen on the last tenth of the training pictures; then all of them make the layer."""
    features, label = kept(cache, "train")
    validation, truth = kept(cache, "val")
    width, tenth = features.shape[-1] // 2, len(label) // 10
    for name, used in (("CLS", slice(0, width)), ("CLS and mean of patches", slice(0, None))):
        x = features[:, used]
        tried = {s: accuracy(x[-tenth:], label[-tenth:], trained(x[:-tenth], label[:-tenth], s)) for s in SHRINKAGES}
        best = max(tried, key=lambda shrinkage: tried[shrinkage])
        tensors = trained(x, label, best)
        reached = accuracy(validation[:, used], truth, tensors)
        print(f"{name}: {reached:.4f} of {len(truth)} validation pictures, from {len(label)}, shrinkage {best:g}")
        if name == "CLS":  # a mean of patches would still read what is masked as a key
            facts = {"accuracy": f"{reached:.4f}", "training": str(len(label)), "shrinkage": f"{best:g}"}
            save_file(tensors, cache / HEAD, metadata=facts)


def main() -> None:
    arguments = parser(__doc__, out=False)
    arguments.add_argument("step", choices=("features", "head"))
    arguments.add_argument("network", type=Path)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("cache", type=Path)
    arguments.add_argument("--minutes", type=float, default=12)
    args = arguments.parse_args()
    torch.set_num_threads(1)
    if args.step == "features":
        keep_features(network(args.network), args.data, args.cache, args.minutes)
    else:
        train_head(args.cache)


if __name__ == "__main__":
    main()
