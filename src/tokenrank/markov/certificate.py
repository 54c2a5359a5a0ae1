"""Certificate: what an answer of a chain is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


class Batched:
    """Frozen data classes whose tensors begin with the dimensions of the chain, so that they are indexed together."""

    WHOLE: ClassVar[frozenset[str]] = frozenset()
    """Fields that have no leading dimensions."""

    def batched_fields(self) -> dict[str, Any]:
        """The fields that have leading dimensions, by name."""
        names = [field.name for field in fields(cast("Any", self)) if field.name not in self.WHOLE]
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if isinstance(value, Tensor | Batched)}

    def __getitem__(self, index: Any) -> Self:
        """The same of some of the chains."""
        part = {name: value[index] for name, value in self.batched_fields().items()}
        return cast("Self", replace(cast("Any", self), **part))


@dataclass(frozen=True, repr=False)
class Certificate(Batched):
    """Carried by every answer.

    Attributes:
        converged: bool (*batch): the bound, or where there is none the residual, met the tolerance; (*batch, C) where a
            chain has several answers.
        residual: what the equation that was solved is off by: ‖πᵀG − πᵀ‖₁ for stationary distributions, the
            largest entry for systems of equations, ‖My − λy‖₂ for eigenvalues. Same shape; 0 where none was iterated.
        error_bound: proved bound of the distance to the exact answer in the same norm; None where nothing can be
            proved, inf where it was not proved for a chain, 0 throughout for answers that are exact but for the
            rounding of sums.
        applies: attention applications spent (the largest over the batch).
        method: what found the answer: "power", "gmres", "substitution", "elimination", "arnoldi", …; "none" where
            there was nothing to solve.
        uncertain: bool, same shape: the answer is an estimate and may be another. Where it did not converge; and
            where the residual says too little, as of an ill-conditioned eigenvalue, of states without a gap, or of a
            stationary vector without teleport: its error is about residual / (1 − |λ2|), so that a residual says
            nothing where the gap 1 − |λ2| is of its size.
        about: what a bound is about, ``operator.source``: "stored weights", whatever they were rounded from, or
            "queries and keys", whose softmax is never exact, so that a bound holds what rounding does to it.

    Example:
        >>> import torch
        >>> certificate = Certificate(torch.tensor([True, False]), torch.tensor([1e-9, 1e-3]), None, 12, "power")
        >>> print(certificate)
        NOT converged for 1 of 2, residual 1.0e-03, 12 applies, power
        >>> print(certificate[0])
        converged, residual 1.0e-09, 12 applies, power
        >>> one = torch.tensor(1e-7)
        >>> print(Certificate(one > 0, one, one, 3, "power", about="stored weights"))
        converged, error ≤ 1.0e-07 (proved of the stored weights), residual 1.0e-07, 3 applies, power
    """

    converged: Tensor
    residual: Tensor
    error_bound: Tensor | None
    applies: int
    method: str
    uncertain: Tensor = None  # type: ignore[assignment]  # where not given: what did not converge
    about: str = ""

    def __post_init__(self) -> None:
        if cast("Tensor | None", self.uncertain) is None:
            object.__setattr__(self, "uncertain", ~self.converged)

    @classmethod
    def exact(
        cls, batch: Sequence[int], device: torch.device, applies: int, method: str, about: str = ""
    ) -> Certificate:
        """Of an answer that is exact but for the rounding of sums, for chains (*batch)."""
        zero = torch.zeros(tuple(batch), dtype=torch.float64, device=device)
        return cls(zero == 0, zero, zero, applies, method, about=about)

    @classmethod
    def joined(cls, parts: Sequence[Certificate], batch: Sequence[int], order: Sequence[str]) -> Certificate:
        """Of chains (*batch) that were answered in parts (h,), one after the other.

        The methods stand in ``order``; the last of those that were used is told.
        """

        def whole(tensors: Sequence[Tensor]) -> Tensor:
            return torch.cat(list(tensors)).reshape(tuple(batch))

        bounds = [part.error_bound for part in parts if part.error_bound is not None]
        return cls(
            whole([part.converged for part in parts]),
            whole([part.residual for part in parts]),
            whole(bounds) if len(bounds) == len(parts) else None,
            max(part.applies for part in parts),
            max((part.method for part in parts), key=order.index),
            whole([part.uncertain for part in parts]),
            parts[0].about,
        )

    def expand(self, *shape: int) -> Certificate:
        """The same for several answers of each chain: (*batch) becomes (*batch, …) = ``shape``."""

        def wide(x: Tensor) -> Tensor:
            return x.reshape((*x.shape, *[1] * (len(shape) - x.ndim))).expand(shape)

        changes: dict[str, Any] = {name: wide(value) for name, value in self.batched_fields().items()}
        return replace(self, **changes)

    def beyond(self, known: float | Tensor) -> Certificate:
        """The same; bounds that say no more than is ``known`` of any such answer, (*batch) or a number, become inf."""
        if self.error_bound is None:
            return self
        return replace(self, error_bound=torch.where(self.error_bound < known, self.error_bound, torch.inf))

    def __str__(self) -> str:
        """In plain words: whether it can be trusted, what is proved, what was spent."""
        parts = [self._state()]
        if self.error_bound is not None and bool((self.error_bound != 0).any()):
            known, missing = _largest(self.error_bound)
            more = (f" of the {self.about}" if self.about else "") + (f"; {missing}" if missing else "")
            parts.append("error bound not known" if known is None else f"error ≤ {known:.1e} (proved{more})")
        if bool((self.residual != 0).any()):
            known, missing = _largest(self.residual)
            more = f" ({missing})" if missing else ""
            parts.append("residual not known" if known is None else f"residual {known:.1e}{more}")
        parts += [f"{self.applies:,} {'apply' if self.applies == 1 else 'applies'}"] if self.applies else []
        parts += [self.method] if self.method != "none" else []
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"Certificate({self})"

    def _state(self) -> str:
        count = self.converged.numel()
        failed = count - int(self.converged.sum())
        doubted = int((self.uncertain & self.converged).sum())
        words = [f"NOT converged{_of(failed, count)}"] if failed else []
        words += [f"uncertain{_of(doubted, count)}"] if doubted else []
        exact = self.error_bound is not None and not bool(self.error_bound.any())
        return ", ".join(words) or ("exact" if exact else "converged")


def _of(some: int, count: int) -> str:
    return "" if some == count else f" for {some} of {count}"


def _largest(x: Tensor) -> tuple[float | None, str]:
    """The largest finite entry, None where there is none; and in words how many are not finite."""
    finite = x[torch.isfinite(x)]
    missing = x.numel() - finite.numel()
    return float(finite.max()) if finite.numel() else None, f"not known{_of(missing, x.numel())}" if missing else ""
