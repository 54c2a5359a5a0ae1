"""Settings of a run, which all its parts must agree on, as plain values; the choice of its images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ...errors import InputError, printable
from ...models import Model
from ...plain import plain, utf8
from ...untrusted import open_regular
from ..datasets.sample import half as half_of

if TYPE_CHECKING:
    from ..datasets.sample import Dataset
    from ..methods import NamedMethod
    from ..protocols.base import Protocol

SAMPLED = 64
"""Numbers of every tensor that enter the digest of a model's weights."""


def settings_of(
    protocol: Protocol,
    dataset: Dataset,
    model: Model,
    methods: Sequence[NamedMethod],
    keys: Sequence[str],
    seed: int,
    limit: int | None,
    half: int | None,
) -> dict[str, Any]:
    """Protocol, data set, model, methods, seed and choice of images. Names only: no path of the machine."""
    made = {
        "protocol": {"name": protocol.name, **protocol.settings},
        "dataset": {
            "name": dataset.name,
            "images": len(dataset.keys),
            "digest": digest_of(dataset.keys).hex()[:16],
            "classes": digest_of(dataset.classes).hex()[:16],  # a folder more gives the same images other numbers
            **dataset.options,
        },
        "model": settings_of_model(model),
        "methods": [method.name for method in methods],
        "seed": seed,
        "limit": limit,
        "half": half,
        "images": {"number": len(keys), "digest": digest_of(keys).hex()[:16]},
    }
    return plain(made, other=named)


def settings_of_model(model: Model) -> dict[str, Any]:
    """What tells a model from others: its name, weights, preprocessing and way of attending."""
    return {
        "name": shown_name(model.name),
        "commit": model.commit,
        "digest": weights_digest(model.module),
        "attention": model.attention,
        "classifier": model.head is not None,
        "pictures": None if model.images is None else asdict(model.images),
    }


def chosen(dataset: Dataset, seed: int, limit: int | None, half: int | None) -> tuple[str, ...]:
    """Keys of the images to run, in the order of the data set; see ``run``."""
    if half not in (None, 0, 1):
        raise InputError(f"half = {half}, expected 0 (even places), 1 (odd places) or None (all)")
    if limit is not None and limit < 1:
        raise InputError(f"limit = {limit}, expected the number of images, 1 or more")
    keys = tuple(dataset.keys)
    if len(set(map(utf8, keys))) < len(keys):
        raise InputError(f"data set {dataset.name!r} has two images of one key; keys must differ")
    keys = keys if half is None else half_of(keys, 0 if half == 0 else 1)
    if not keys:
        raise InputError(f"data set {dataset.name!r} has no image to run{_why(dataset.problems)}")
    return subset(keys, limit, seed)


def subset(keys: Sequence[str], limit: int | None, seed: int) -> tuple[str, ...]:
    """``limit`` of the keys, drawn by the seed, in the order that they have; all of them where there are no more.

    A larger limit keeps those of a smaller one. Drawn, since data sets are sorted: the first hundred images would be
    those of the first classes.
    """
    if limit is None or limit >= len(keys):
        return tuple(keys)
    drawn = set(sorted(keys, key=lambda key: digest_of(["subset", str(seed), key]))[:limit])
    return tuple(key for key in keys if key in drawn)


def digest_of_run(settings: Mapping[str, Any]) -> str:
    """What the parts of a run bear: 16 hexadecimal digits of its settings."""
    return digest_of([json.dumps(settings, sort_keys=True)]).hex()[:16]


def digest_of(parts: Iterable[str]) -> bytes:
    """32 bytes that differ where any of the strings, or their order, does."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()


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


def contents_of(dataset: Dataset, keys: Iterable[str]) -> dict[str, str]:
    """Key → 16 hexadecimal digits of what the files of an image hold; images whose files are not known are left out."""
    contents = {}
    for key in keys:
        files = dataset.files(key)
        if files:
            contents[key] = digest_of_files(files)
    return contents


def digest_of_files(files: Iterable[Path]) -> str:
    """16 hexadecimal digits of what some files hold."""
    return digest_of(_file_digest(path, *_state(path)) for path in files).hex()[:16]


def _state(path: Path) -> tuple[int, int]:
    """Size and time; those of no file where there is none."""
    try:
        state = path.stat()
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=100_000)  # one file may hold many images; read again when its size or time changes
def _file_digest(path: Path, size: int, changed: int) -> str:
    if not size:
        return "empty"
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open_regular(path, "a file of the data set") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (OSError, InputError):  # missing, a pipe …: its image fails when it is read, and costs the others nothing
        return "unreadable"
    return digest.hexdigest()


def check_contents(stored: Mapping[str, str], now: Mapping[str, str], folder: str, items: str = "images") -> None:
    """Raise ``InputError`` that names the items whose files hold something else than at the first start."""
    changed = [key for key, digest in now.items() if stored.get(key, digest) != digest]
    if changed:
        names = ", ".join(map(printable, changed[:3])) + (" …" if len(changed) > 3 else "")
        raise InputError(
            f"the files of {len(changed)} of {len(now)} {items} have changed since the run in {folder} was started: "
            f"{names}; restore them, or choose another folder"
        )


def check_versions(stored: Mapping[str, str], now: Mapping[str, str], folder: str) -> None:
    """Raise ``InputError`` that names the versions that differ from those of the last start, with both."""
    different = [
        f"{name} was {stored.get(name, 'absent')}, now {now.get(name, 'absent')}"
        for name in dict.fromkeys([*stored, *now])
        if stored.get(name) != now.get(name)
    ]
    if different:
        raise InputError(
            f"the run in {folder} last ran on other versions: {'; '.join(different)}; install those, allow others "
            "(other_versions=True, --other-versions), or choose another folder"
        )


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


def named(value: Any) -> Any:
    """What settings have for a value that is not plain: the last part of a path, a sorted set, text of all else."""
    if isinstance(value, set | frozenset):
        return plain(sorted(value, key=str), other=named)
    return value.name if isinstance(value, Path) else str(value)


def _why(problems: Mapping[str, str]) -> str:
    if not problems:
        return ""
    key, problem = next(iter(problems.items()))
    return f"; of {len(problems)} that cannot be used, {printable(key)}: {problem}"
