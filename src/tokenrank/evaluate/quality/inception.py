"""Inception of 2015 by torch-fidelity, and its numbers on it: IS, FID, KID, precision, recall."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError, first_line, printable, require
from ...untrusted import check_regular
from ..runner.settings import weights_digest
from .features import Features, Network
from .pictures import Bytes

EXTRA = "quality"
NAME = "inception"
FILE = "weights-inception-2015-12-05-6726825d.pth"
"""As torch-fidelity's release names it."""
_LAYERS = ["2048", "logits_unbiased"]
KID_SUBSETS, KID_SUBSET = 100, 1000


def inception(weights: str | os.PathLike[str]) -> Network:
    """The network of IS and FID, its resizing included, as torch-fidelity has it; nothing is downloaded.

    Args:
        weights: file ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity's release 0.2.0.

    Raises:
        MissingExtraError: torch-fidelity is not installed.
        InputError: the file is missing, or holds something else.
    """
    utils = require("torch_fidelity.utils", EXTRA)
    path = Path(weights).expanduser()
    check_regular(path, "Inception's weights")
    cure = f"expected {FILE} of torch-fidelity's release 0.2.0; fetch it again"
    try:
        # torch-fidelity unpickles whatever is there, so it is first read as tensors alone
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise InputError(f"{printable(path)} holds other things than tensors; {cure}")
        module = utils.create_feature_extractor(
            "inception-v3-compat", list(_LAYERS), cuda=False, feature_extractor_weights_path=str(path), verbose=False
        )
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{printable(path)} cannot be read as Inception's weights: {first_line(error)}; {cure}"
        ) from None

    @torch.no_grad()
    def run(pictures: Bytes) -> Features:
        values, logits = module(torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2))
        return Features(values.numpy(), logits.numpy())

    return Network(NAME, weights_digest(module), run)


def scores(generated: Features, real: Features | None, *, splits: int = 10, seed: int = 0) -> dict[str, float]:
    """torch-fidelity's numbers, computed by it: inception_score and its deviation; with ``real`` also fid, kid and its
    deviation, precision and recall.

    KID is over 100 subsets of 1,000 pictures, or of all where there are fewer.

    Raises:
        MissingExtraError: torch-fidelity is not installed.
        InputError: fewer pictures than splits; no logits.
    """
    if generated.logits is None:
        raise InputError(
            "the features have no logits, which the Inception Score needs; give those of inception(weights)"
        )
    if not 1 <= splits <= len(generated):
        raise InputError(f"splits = {splits} of {len(generated)} pictures; expected 1 to {len(generated)}")
    found: dict[str, Any] = {}
    isc = _metric("isc").isc_features_to_metric(torch.from_numpy(generated.logits), splits, True, seed)
    found["inception_score"], found["inception_score_deviation"] = isc.values()
    if real is not None:
        one, two = (torch.from_numpy(features.values) for features in (generated, real))
        fid = _metric("fid")
        statistics = [fid.fid_features_to_statistics(features) for features in (one, two)]
        found["fid"] = next(iter(fid.fid_statistics_to_metric(*statistics, False).values()))
        kid = _metric("kid").kid_features_to_metric(
            one, two, kid_subsets=KID_SUBSETS, kid_subset_size=min(KID_SUBSET, len(one), len(two)), rng_seed=seed,
            verbose=False,
        )  # fmt: skip
        found["kid"], found["kid_deviation"] = kid.values()
        alike = _metric("prc").prc_features_to_metric(one, two, verbose=False)
        found["precision"], found["recall"] = alike["precision"], alike["recall"]
    return {name: float(value) for name, value in found.items()}


def _metric(name: str) -> Any:
    return require(f"torch_fidelity.metric_{name}", EXTRA)
