"""The fast bilateral solver: a map made smooth where the picture is, in the picture's bilateral grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, require
from ..models.images import ImageSource, read_image

Numbers = npt.NDArray[np.float64]


def bilateral_solver(
    image: ImageSource,
    values: npt.ArrayLike,
    *,
    spatial: float = 16.0,
    luma: float = 16.0,
    chroma: float = 8.0,
    smoothness: float = 256.0,
    confidence: float = 0.999,
    iterations: int = 25,
    tol: float = 1e-5,
) -> Numbers:
    """The map closest to ``values`` that is smooth wherever the picture is (Barron and Poole, ECCV 2016).

    Minimises λ/2 Σ_ij Ŵ_ij (x_i − x_j)² + Σ_i c (x_i − t_i)² over maps that are constant in the cells of a grid over
    place, luma and chroma (sec. 2.3), Ŵ being the bistochastic blur of that grid. The settings are TokenCut's "+ BS"
    [V]: it solves for the binary map upsampled to the picture, and scores the soft answer, cut at 0.5 for IoU and
    accuracy. Colours are JPEG's YCbCr in bytes.

    Args:
        image: the picture, (H, W) as the values; see ``read_image``.
        values: t (H, W), finite; a mask counts as 0 and 1.
        spatial, luma, chroma: sides of a cell in pixels and in steps of 256.
        smoothness: λ.
        confidence: c of every pixel, in (0, 1].
        iterations, tol: of the conjugate gradients, started from each cell's mean; relative residual. The published
            recipe stops after 25 iterations whether converged or not [V], and so does this.

    Returns:
        (H, W) float64.

    Raises:
        InputError: values that are not finite or not (H, W), or settings that are not positive.
        MissingExtraError: scipy is not installed.
    """
    picture = read_image(image)
    target = np.asarray(values, dtype=np.float64)
    if target.shape != (picture.height, picture.width) or not np.isfinite(target).all():
        raise InputError(
            f"values have shape {target.shape}, expected finite ones of {(picture.height, picture.width)}: the "
            "picture's (H, W); upsample them first"
        )
    settings = (spatial, luma, chroma, smoothness, confidence, iterations, tol)
    if min(settings) <= 0 or confidence > 1:
        raise InputError(f"settings {settings}, expected positive ones and a confidence of at most 1")
    cell, blur = bilateral_grid(np.asarray(picture.convert("YCbCr")), spatial, luma, chroma)
    count = np.bincount(cell).astype(np.float64)
    scale, mass = _bistochastic(blur, count)
    sparse = require("scipy.sparse", "evaluate")
    laplacian = sparse.diags_array(mass) - sparse.diags_array(scale) @ blur @ sparse.diags_array(scale)
    system = (smoothness * laplacian + sparse.diags_array(confidence * count)).tocsr()
    right = confidence * np.bincount(cell, target.ravel())
    preconditioner = sparse.diags_array(1 / system.diagonal())
    solved, _ = require("scipy.sparse.linalg", "evaluate").cg(
        system, right, x0=right / (confidence * count), rtol=tol, maxiter=iterations, M=preconditioner
    )
    return np.asarray(solved[cell].reshape(target.shape), dtype=np.float64)


def bilateral_grid(
    pixels: npt.NDArray[np.uint8], spatial: float, luma: float, chroma: float
) -> tuple[npt.NDArray[np.int64], Any]:
    """The occupied cells of a bilateral grid.

    Args:
        pixels: (H, W, 3), luma and two chromas.
        spatial, luma, chroma: sides of a cell.

    Returns:
        The cell of every pixel, (H · W,), numbered 0 … V−1; and the blur (V, V): 10 of the cell itself and 1 of each
        of its neighbours one step away along one of five axes, the [1 2 1] of every axis.
    """
    rows, columns = np.indices(pixels.shape[:2])
    axes = [columns / spatial, rows / spatial, pixels[..., 0] / luma, pixels[..., 1] / chroma, pixels[..., 2] / chroma]
    places = np.stack([np.floor(axis).astype(np.int64).ravel() for axis in axes], -1)
    sides = places.max(0) + 2  # one place more than needed: a step up from the last stays in its own row
    strides = np.concatenate([np.cumprod(sides[::-1])[::-1][1:], [1]])
    occupied, cell = np.unique(places @ strides, return_inverse=True)
    sparse = require("scipy.sparse", "evaluate")
    blur = sparse.eye_array(len(occupied), format="csr") * (2.0 * len(axes))
    for stride in strides:
        found = np.minimum(np.searchsorted(occupied, occupied + stride), len(occupied) - 1)
        (here,) = np.nonzero(occupied[found] == occupied + stride)
        step = sparse.csr_array((np.ones(len(here)), (here, found[here])), shape=blur.shape)
        blur = blur + step + step.T
    return cell.reshape(-1), blur


def _bistochastic(blur: Any, count: Numbers, rounds: int = 10) -> tuple[Numbers, Numbers]:
    """n and m such that diag(n) B diag(n) has row sums m, near the pixel counts (algorithm 1)."""
    scale = np.ones_like(count)
    for _ in range(rounds):
        scale = np.sqrt(scale * count / (blur @ scale))
    return scale, scale * (blur @ scale)
