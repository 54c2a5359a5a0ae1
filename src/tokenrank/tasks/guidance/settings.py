"""What guidance is asked for: kinds, masks, strength, layers, heads, the part of the run; checked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import InputError, nearest
from .blur import KERNEL, SIGMA, check_blur
from .masks import check_mask, word_of

Kind = Literal["blur", "identity", "smooth", "shuffle"]
Base = Literal["conditional", "unconditional"]
Heads = int | float | Sequence[int] | None
KINDS: tuple[str, ...] = get_args(Kind)
BASES: tuple[str, ...] = get_args(Base)


@dataclass(frozen=True)
class Settings:
    """Settings of guidance, the same for the context and the guider.

    Attributes:
        kind: "blur" (Self-Attention Guidance), "identity" (Perturbed-Attention Guidance), "smooth" (Smoothed Energy
            Guidance), "shuffle" (Token Perturbation Guidance).
        mask: for "blur", what is degraded; see ``masks.mask_of``.
        scale: s of ``prediction + s · (base - degraded)``.
        layers: names of attention layers, or globs: whose attention makes the mask, or which are perturbed. The default
            of the model's family where None.
        heads: to perturb: numbers, or a share of them in (0, 1), those of largest |λ2|; all where None.
        start, stop: part of the sampler's steps that is guided, in shares of one.
        sigma: of the blur in cells; None for the kind's own (1 for "blur", infinite for "smooth").
        kernel: of the blur in cells, odd; for "blur".
        base: whose prediction and attention it is where there is classifier-free guidance: None for the kind's own,
            "unconditional" for "blur" (Hong et al. 2023, eq. 25) and "conditional" for the others.
        seed: of "random" masks and of "shuffle".
    """

    kind: str = "blur"
    mask: str = "tokenrank"
    scale: float = 0.75
    layers: str | Sequence[str] | None = None
    heads: Heads = None
    start: float = 0.0
    stop: float = 1.0
    sigma: float | None = None
    kernel: int = KERNEL
    base: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind = {self.kind!r}, there is no such guidance; {nearest(str(self.kind), KINDS)}")
        check_mask(self.mask)
        if not _is_number(self.scale) or not math.isfinite(self.scale):
            raise InputError(f"scale = {self.scale!r}, expected a number such as 0.75")
        if not (_is_number(self.start) and _is_number(self.stop) and 0 <= self.start < self.stop <= 1):
            raise InputError(
                f"start = {self.start!r} and stop = {self.stop!r}, expected shares of the run with 0 ≤ start < stop ≤ 1"
            )
        check_blur(self.kernel, self.blur_sigma)
        if self.base not in (None, *BASES):
            raise InputError(f"base = {self.base!r}, expected 'conditional', 'unconditional' or None")
        if self.heads is not None and self.kind == "blur":
            raise InputError(f"heads = {self.heads!r} with kind 'blur', which perturbs no heads; expected None")
        check_heads(self.heads)

    @property
    def blur_sigma(self) -> float:
        """Sigma, the kind's own where none was given."""
        return (math.inf if self.kind == "smooth" else SIGMA) if self.sigma is None else self.sigma

    @property
    def kernel_for_queries(self) -> int:
        """Width of the kernel of "smooth": three standard deviations to either side, as published."""
        return 1 if math.isinf(self.blur_sigma) else math.ceil(6 * self.blur_sigma) | 1

    @property
    def guided_branch(self) -> str:
        """Whose prediction is compared with its degraded one."""
        return self.base or ("unconditional" if self.kind == "blur" else "conditional")

    @property
    def word(self) -> str | None:
        """The word whose map is the mask, where it is one."""
        return word_of(self.mask) if self.kind == "blur" else None

    def within(self, step: int, steps: int) -> bool:
        """Whether step number ``step`` of ``steps`` is guided, counted as the guiders of diffusers do."""
        return int(self.start * steps) <= step < int(self.stop * steps)


def check_heads(heads: Heads) -> None:
    """Raise where ``heads`` are no heads.

    Raises:
        InputError: neither numbers nor a share.
    """
    if heads is None or (isinstance(heads, float) and 0 < heads < 1):
        return
    several = [heads] if isinstance(heads, int) else list(heads) if isinstance(heads, list | tuple) else []
    if not several or any(isinstance(h, bool) or not isinstance(h, int) for h in several):
        raise InputError(f"heads = {heads!r}, expected numbers of heads, or a share of them above 0 and below 1")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
