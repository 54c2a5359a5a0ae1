"""What a sampler is heading for, seen on the way: the clean picture in latents that are still noisy."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .schedule import Level, level_of


class Preview:
    """Takes the latents after each step and tells the clean ones between two of them.

    A sampler of first order keeps the clean picture c and the noise ε for the length of a step, so that two latents,
    x = a c + s ε and x' = a' c + s' ε, tell c. Of samplers that add noise, or use earlier steps, it is an estimate.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._before: tuple[Tensor, Level] | None = None

    def after(self, step: int, latents: Tensor) -> Tensor | None:
        """The clean latents; None after the first step, and where two levels of noise are alike.

        Args:
            step: which has just been made, from 0.
            latents: after it.
        """
        times = self._scheduler.timesteps
        if step + 1 >= len(times):
            return latents.float()
        level, before = self._level(times[step + 1]), self._before
        self._before = latents.float(), level
        if before is None:
            return None
        x, was = before
        apart = was.signal * level.noise - level.signal * was.noise
        if abs(apart) < 1e-6:
            return None
        return (level.noise * x - was.noise * latents.float()) / apart

    def _level(self, timestep: Any) -> Level:
        """In the scale of the sampler, which may differ from that of the denoiser."""
        level = level_of(self._scheduler, timestep)
        if hasattr(self._scheduler, "is_scale_input_called"):  # x = c + σ ε, scaled for the denoiser alone
            return Level(1.0, level.noise / level.signal)
        return level
