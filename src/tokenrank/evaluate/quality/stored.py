"""Features of many pictures, kept in parts, so that a run that was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ...errors import InputError, first_line, printable
from ...progress import track
from ...untrusted import read_bytes
from ...writing import write_whole
from .features import Features, Network
from .pictures import Bytes, Pictures, parts

PART = 256
"""Pictures in a file."""


def extract(pictures: Pictures, network: Network, store: Path | None = None, batch: int = 32) -> Features:
    """The features of all pictures, in their order.

    A file of the store bears the digest of the network and of the pictures in it, so that it is read again only for the
    same pictures under the same weights; what changed is computed anew.

    Args:
        pictures: of any sizes.
        network: gives the features.
        store: a folder; nothing is kept where None.
        batch: pictures of one size that run together.

    Raises:
        InputError: a picture cannot be read, or a file of the store is broken.
    """
    if store is not None:
        store.mkdir(parents=True, exist_ok=True)
    found = []
    for places in track(list(parts(pictures, PART)), f"features of {network.name}"):
        file = None if store is None else store / f"{network.name}-{_digest(pictures, network, places)}.safetensors"
        if file is not None and file.exists():
            found.append(_read(file))
            continue
        made = _run(pictures, network, places, batch)
        if file is not None:
            write_whole(file, save(_tensors(made)))
        found.append(made)
    if not found:
        raise InputError(f"{pictures.name} holds no pictures")
    return joined(found)


def joined(found: Sequence[Features]) -> Features:
    """One after the other."""
    logits = [features.logits for features in found if features.logits is not None]
    return Features(np.concatenate([features.values for features in found]), np.concatenate(logits) if logits else None)


def _run(pictures: Pictures, network: Network, places: Sequence[int], batch: int) -> Features:
    done: list[Features] = []
    waiting: list[Bytes] = []
    for place in places:
        picture = pictures.read(place)
        if waiting and (len(waiting) == batch or picture.shape != waiting[0].shape):
            done.append(network.run(np.stack(waiting)))
            waiting = []
        waiting.append(picture)
    return joined([*done, network.run(np.stack(waiting))])


def _digest(pictures: Pictures, network: Network, places: Sequence[int]) -> str:
    text = "\n".join([network.digest, *(pictures.digest(place) for place in places)])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _tensors(features: Features) -> dict[str, np.ndarray]:
    made = {"values": np.ascontiguousarray(features.values)}
    return made if features.logits is None else {**made, "logits": np.ascontiguousarray(features.logits)}


def _read(file: Path) -> Features:
    try:
        tensors = load(read_bytes(file, "features of pictures"))
        return Features(tensors["values"], tensors.get("logits"))
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"{printable(file)} holds no features: {first_line(error)}; remove it, and it is computed anew"
        ) from None
