"""One call of the root module: what its attention calls have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class Forward:
    """One call of the root module; its records share it.

    Attributes:
        step: 0-based count of the root module's calls.
        timestep: of a denoiser, as the model was given it; None where it takes none, or several.
        branches: of classifier-free guidance, in the order of the batch: ("unconditional",
            "conditional") where both run in one call, one of them where each has a call of its
            own, () without guidance.
        share: the records hold one of so many equal parts of the model's batch: 2 for one branch of two.
    """

    step: int
    timestep: float | None = None
    branches: tuple[str, ...] = ()
    share: int = 1
