"""What the parts of one run must agree on, as plain JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ...errors import InputError
from ...models import Model
from .work import digest_of

if TYPE_CHECKING:
    from ..datasets.sample import Dataset
    from ..methods import Method
    from ..protocols.base import Protocol

SAMPLED = 64
"""Numbers of every tensor that enter the digest of a model's weights."""


def settings_of(
    protocol: Protocol,
    dataset: Dataset,
    model: Model,
    methods: Sequence[Method],
    keys: Sequence[str],
    seed: int,
    limit: int | None,
    half: int | None,
) -> dict[str, Any]:
    """Protocol, data set, model, methods, seed and choice of images. Names only: no path of the machine."""
    made = {
        "protocol": {"name": protocol.name, **protocol.settings},
        "dataset": {"name": dataset.name, "images": len(dataset.keys), "digest": digest_of(dataset.keys).hex()[:16]},
        "model": {
            "name": shown_name(model.name),
            "digest": weights_digest(model.module),
            "attention": model.attention,
            "classifier": model.head is not None,
            "pictures": None if model.images is None else asdict(model.images),
        },
        "methods": [method.name for method in methods],
        "seed": seed,
        "limit": limit,
        "half": half,
        "images": {"number": len(keys), "digest": digest_of(keys).hex()[:16]},
    }
    return json.loads(json.dumps(made, default=_plain))


def weights_digest(module: nn.Module) -> str:
    """16 hexadecimal digits that differ where weights do: every tensor's name, shape and type, and ``SAMPLED`` of its
    numbers at even distances. Other numbers can only be changed unnoticed one by one.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        flat = tensor.detach().reshape(-1)
        if flat.numel():
            places = np.unique(np.linspace(0, flat.numel() - 1, SAMPLED).astype(np.int64))
            taken = flat[torch.from_numpy(places).to(flat.device)].cpu().contiguous()
            digest.update(taken.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def shown_name(name: str) -> str:
    """A model's name; of a folder its last part, since where it lies is the machine's affair."""
    path = Path(name).expanduser()
    return path.resolve().name if path.is_absolute() or name.startswith((".", "~")) or path.is_dir() else name


def check_same(stored: Mapping[str, Any], asked: Mapping[str, Any], folder: str) -> None:
    """Raise ``InputError`` that names every setting that differs, with both values."""
    found, now = dict(_flat(stored)), dict(_flat(asked))
    missing = "absent"
    different = [
        f"{name} was {found.get(name, missing)}, now {now.get(name, missing)}"
        for name in dict.fromkeys([*found, *now])
        if found.get(name, missing) != now.get(name, missing)
    ]
    if different:
        raise InputError(
            f"{folder} holds a run with other settings: {'; '.join(different)}; use the settings that it was started "
            "with, or choose another folder"
        )


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, Path):
        return value.name
    return str(value)
