"""Quality of generated pictures: every distance on every network, by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..statistics import Interval, bootstrap
from .distances import Gaussian, precision_recall
from .features import Features, Network
from .inception import NAME, scores
from .intervals import RESAMPLES, counts, frechet_drawn, kernel_drawn
from .pictures import Bytes, open_pictures
from .stored import extract


@dataclass(frozen=True)
class Quality:
    """What was measured.

    Attributes:
        values: name → number: inception_score, fid, kid, precision, recall on Inception; fd_NAME, kid_NAME,
            precision_NAME, recall_NAME on another network; accuracy_NAME where labels were given and it has a
            classifier.
        intervals: 95 %, of those that have one.
        pictures, real: how many there were.
    """

    values: dict[str, float]
    intervals: dict[str, Interval]
    pictures: int
    real: int


def measure(
    generated: str | os.PathLike[str] | Bytes,
    real: str | os.PathLike[str] | Bytes | None,
    networks: Sequence[Network],
    *,
    labels: Sequence[int] | None = None,
    store: str | os.PathLike[str] | None = None,
    batch: int = 32,
    splits: int = 10,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Quality:
    """Compare generated pictures with real ones.

    Args:
        generated, real: each a folder of pictures, an ``.npz`` or an array; see ``open_pictures``. Without ``real``
            only the Inception Score and the accuracy are measured.
        networks: such as ``inception(weights)``, ``of_model(tr.load(dinov2), "dinov2-small", 112)``, ``bundled()``.
        labels: class of each generated picture, as the networks' classifiers number them.
        store: folder for features, so that a second start goes on; see ``extract``.
        batch: pictures that run together.
        splits: of the Inception Score.
        resamples, seed: of the intervals, and of what is drawn.

    Raises:
        InputError: pictures that cannot be read, or too few of them; a network twice; labels of another number.
        MissingExtraError: torch-fidelity is not installed, and a network is Inception.
    """
    names = [network.name for network in networks]
    if not names or len(set(names)) < len(names):
        raise InputError(f"networks {names}, expected one at least, and none twice")
    made, there = open_pictures(generated), None if real is None else open_pictures(real)
    if labels is not None and len(labels) != len(made):
        raise InputError(f"{len(labels)} labels for {len(made)} pictures; expected one a picture")
    folder = None if store is None else Path(store).expanduser()
    values: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for network in networks:
        one = extract(made, network, folder, batch)
        two = None if there is None else extract(there, network, folder, batch)
        if network.name == NAME:
            values |= scores(one, two, splits=splits, seed=seed)
        elif two is not None:
            found, sure = distances(one, two, network.name, resamples, seed)
            values, intervals = values | found, intervals | sure
        if labels is not None and one.logits is not None and network.name != NAME:
            right = (one.logits.argmax(1) == np.asarray(labels)).astype(np.float64)
            sure_of = bootstrap(right, resamples=resamples, seed=seed)
            intervals[f"accuracy_{network.name}"], values[f"accuracy_{network.name}"] = sure_of, sure_of.estimate
    if not values:
        raise InputError("nothing to measure: give real pictures, or labels and a network with a classifier")
    return Quality(values, intervals, len(made), 0 if there is None else len(there))


def distances(
    generated: Features, real: Features, name: str, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[dict[str, float], dict[str, Interval]]:
    """fd_NAME, kid_NAME, precision_NAME, recall_NAME, and the intervals of the first two.

    Raises:
        InputError: too few pictures, or features of another width.
    """
    drawn = counts(len(generated), resamples, seed)
    found = {
        f"fd_{name}": frechet_drawn(generated.values, Gaussian.of(real.values), drawn),
        f"kid_{name}": kernel_drawn(generated.values, real.values, drawn),
    }
    precision, recall = precision_recall(generated.values, real.values)
    values = {key: value.estimate for key, value in found.items()}
    return (
        {**values, f"precision_{name}": precision, f"recall_{name}": recall},
        {key: value.interval for key, value in found.items()},
    )


def probabilities(logits: npt.ArrayLike, labels: Sequence[int]) -> npt.NDArray[np.float64]:
    """(n,): what a classifier gives the right class of each picture.

    Args:
        logits: (n, classes).
        labels: (n,).

    Raises:
        InputError: other numbers of them, or a label that is no class.
    """
    given, right = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if given.ndim != 2 or right.shape != given.shape[:1]:
        raise InputError(f"logits of shape {given.shape} and {len(right)} labels; expected (n, classes) and n labels")
    if len(right) and not 0 <= right.min() <= right.max() < given.shape[1]:
        raise InputError(f"labels from {right.min()} to {right.max()}, expected 0 to {given.shape[1] - 1}")
    odds = np.exp(given - given.max(1, keepdims=True))
    return np.asarray(odds[np.arange(len(right)), right] / odds.sum(1))
