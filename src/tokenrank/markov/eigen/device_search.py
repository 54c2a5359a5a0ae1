"""Leading Ritz pairs of all heads at once on a device: one Krylov space, a flag a head now and then, no other wait."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...operators import Operator
from ..engine import constants
from ..engine.device_eigen import dominant_pair
from ..engine.device_space import DeviceSpace
from ..engine.placement import Product, placed
from ..engine.ritz import leading
from ..engine.transfer import brought, sent
from .found import MARGIN, TOLERANCE, settled

SIMPLE = 0.5  # residual · condition², up to which an eigenvalue counts as a simple one
SLOW, CROWDED, READY = range(3)  # not in the space yet; several of one modulus in it; good enough


def good_enough(modulus: Tensor, residual: Tensor, condition: Tensor, share: float = 1.0) -> Tensor:
    """``settled``, and not so close to a Jordan block that condition · residual says too little, bool (k,).

    Two eigenvalues at a distance δ have conditions of 1/δ, so that the first order counts as long as what they may be
    moved by, residual · condition, is less than δ. What the condition is taken from is off by single precision, too.
    """
    first_order = (residual + torch.finfo(torch.float32).eps) * condition.square() <= SIMPLE
    return settled(modulus, residual, condition, share) & first_order


@dataclass(frozen=True)
class Parts:
    """Irreducible parts P of chains, whose |λ2| is looked for: one entry a part, (k,).

    Attributes:
        heads: the head that each belongs to, as the host knows it.
        states: bool (k, N), which tokens a part has; None where every part has all.
        closed: bool (k, 1, 1), whether nothing leads out of it, so that it has an eigenvalue 1 of its own; None where
            that holds of all.
    """

    heads: list[int]
    states: Tensor | None = None
    closed: Tensor | None = None

    def project(self, x: Tensor) -> Tensor:
        """The part of x (k, N, c) that M acts on: on these tokens, and of sum zero where the part is closed."""
        if self.states is None:
            return x - x.mean(-2, keepdim=True)
        inside = self.states[..., None].to(x.dtype)
        x = x * inside
        mean = x.sum(-2, keepdim=True) / inside.sum(-2, keepdim=True)
        return torch.where(self.closed, x - mean * inside, x) if self.closed is not None else x - mean * inside

    def within(self, x: Tensor) -> Tensor:
        """x (k, N, c) on these tokens alone."""
        return x if self.states is None else x * self.states[..., None]

    def some(self, which: list[int]) -> Parts:
        """Of some of the parts."""
        if len(which) == len(self.heads):
            return self
        heads = [self.heads[i] for i in which]
        if self.states is None:
            return Parts(heads)
        index = torch.tensor(which, device=self.states.device)
        return Parts(heads, self.states[index], None if self.closed is None else self.closed[index])


class DeviceSearch:
    """Block Arnoldi on all parts, begun again from the leading vectors of those that need it.

    Args:
        chains: the chain of each part, (k, N, N).
        parts: what of them is looked at.
        dimension: of a space.
        seed: of the random start, on the device of the chains.

    Raises:
        ValueError: ``constants.DEVICE_WIDTH`` below ``constants.DEVICE_NARROWEST``.

    Attributes:
        values, residual, condition: of the leading Ritz pair, float64 (k,).
        vectors: its unit vector, real and imaginary part, and a basis of the largest ones, (k, N, 2 + b).
        ready, live: whether it is good enough, and whether not, bool (k,).
        applies: products with the chains.
    """

    def __init__(self, chains: Operator, parts: Parts, dimension: int, seed: int) -> None:
        count, n = chains.shape[:2]
        device, width = chains.device, constants.DEVICE_WIDTH
        if width < constants.DEVICE_NARROWEST:
            raise ValueError(
                f"blocks of {width} columns, expected at least {constants.DEVICE_NARROWEST}: what fewer say of "
                "the condition of an eigenvalue may be far too little, and a wrong answer be certain"
            )
        self.chains, self.parts = chains, parts
        self._product: Product = placed(chains, dimension // width, transposed=False, columns=width, rough=False)
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self.ready = torch.zeros(count, dtype=torch.bool, device=device)
        self.live = ~self.ready
        self.values, self.residual, self.condition, self._seen = torch.zeros(
            4, count, dtype=torch.float64, device=device
        ).unbind()
        self.vectors = torch.zeros(count, n, 2 + width, device=device)
        start = torch.randn(n, width, generator=self._generator, device=device).expand(count, -1, -1)
        self._space = DeviceSpace(parts.project(start), dimension, self._generator)
        self.applies = 0

    def run(self) -> None:
        """Until all are ready, or the last space is full."""
        for restart in range(1 + constants.DEVICE_RESTARTS):
            if restart:
                self._begin_again()
            told = self._fill(not restart, constants.DEVICE_CHECKED)
            if min(told) == READY:
                return
            crowded = [i for i, state in enumerate(told) if state == CROWDED]
            if crowded and restart in (0, constants.DEVICE_RESTARTS):
                self._by_lapack(sent(self.ready.device, torch.tensor(crowded))[0], first=not restart)

    def refine(self, doubted: Tensor) -> None:
        """A small space more of parts, bool (k,), whose vectors are good for the products that were stored, no better.

        From the vectors, what float64 leaves of them, and the largest ones beside them, by the chain's own products.
        """
        self.ready = self.ready & ~doubted
        self.live = doubted

        def exact(x: Tensor, live: Tensor) -> Tensor:
            return torch.where(live[:, None, None], self.chains @ x, 0.0)

        self._product = exact
        width = constants.DEVICE_WIDTH
        left = (self._off / torch.linalg.matrix_norm(self._off, keepdim=True).clamp(min=constants.TINY)).float()
        start = torch.cat([self.vectors[..., :2], left, self.vectors[..., 2:]], -1)[..., :width]
        self._space = DeviceSpace(start, 2 * width * constants.DEVICE_REFINED, self._generator)
        self._fill(False, constants.DEVICE_REFINED)

    def measure(self) -> Tensor:
        """|θ| and ‖M y − θ y‖₂ of the vectors found, in float64: one product. The residual, (k,)."""
        y = self.parts.project(self.vectors[..., :2].double())
        size = torch.linalg.matrix_norm(y, keepdim=True)
        y = y / torch.where(size > 0, size, 1.0)
        image = self.parts.project(self.chains @ y)
        self.applies += 1
        real = (y * image).sum((-2, -1))
        imag = (y[..., 0] * image[..., 1] - y[..., 1] * image[..., 0]).sum(-1)
        turned = torch.stack([-y[..., 1], y[..., 0]], -1)
        self._off = image - real[:, None, None] * y - imag[:, None, None] * turned
        self.values = torch.where(self.ready, torch.hypot(real, imag), self.values)
        return torch.where(self.ready, torch.linalg.matrix_norm(self._off), self.residual)

    def growth(self) -> Tensor:
        """How fast ‖Mᵏ X‖ grows on the parts that are not ready, from the best block of theirs, float64 (k,)."""
        x, sizes = self.vectors[..., 2:], []
        for _ in range(constants.LAMBDA2_GROWTH_STEPS + 1):
            size = torch.linalg.matrix_norm(x, keepdim=True)
            x = self.parts.project(self._product(x / torch.where(size > 0, size, 1.0), self.live))
            sizes.append(size[:, 0, 0].double())
        self.applies += constants.LAMBDA2_GROWTH_STEPS
        rates = torch.stack(sizes[1 + constants.LAMBDA2_GROWTH_STEPS // 2 :])
        return torch.where((rates > 0).all(0), rates.log().mean(0).exp(), 0.0)

    def _begin_again(self) -> None:
        self._space = DeviceSpace(self.vectors[..., 2:], self._space.capacity, self._generator)

    def _fill(self, first: bool, blocks: int) -> list[int]:
        """Grows the space, so many blocks at a time, until all are ready or it is full; how far each part is."""
        told, space = [SLOW], self._space
        while not space.full and min(told) != READY:
            for _ in range(blocks):
                if not space.full:
                    space.extend(self._apply)
                    self.applies += 1
            told = self._look(first)
            blocks = space.dimension // space.width  # what a look costs grows with the space
        return told

    def _look(self, first: bool) -> list[int]:
        """What the space shows; how far each part is, the only thing that is waited for."""
        pair = dominant_pair(self._space.projection, self._space.factor, self._generator)
        # the random start of the first space tells the condition, even of what does not settle in it
        self._seen = torch.where(self.live, pair.seen, self._seen) if first else self._seen
        found = torch.cat([pair.coordinates, pair.block], -1)
        self._take(self.live, pair.modulus, pair.residual, torch.maximum(pair.condition, self._seen), found)
        crowded = pair.crowded | (pair.inside > TOLERANCE * pair.modulus.clamp(min=0.1))
        told: list[int] = torch.where(self.ready, READY, torch.where(crowded, CROWDED, SLOW)).tolist()
        return told

    def _apply(self, x: Tensor) -> Tensor:
        """M x. Vectors that random ones take the place of have parts outside of what M acts on, which it takes out."""
        return self.parts.project(self._product(self.parts.within(x), self.live))

    def _take(self, which: Tensor, modulus: Tensor, residual: Tensor, condition: Tensor, coordinates: Tensor) -> None:
        """What is known now of some parts, bool (k,), with vectors (k, m, 2 + b) or without the basis, (k, m, 2)."""
        self.values = torch.where(which, modulus, self.values)
        self.residual = torch.where(which, residual, self.residual)
        self.condition = torch.where(which, condition, self.condition)
        columns = self.vectors[..., : coordinates.shape[-1]]
        columns.copy_(torch.where(which[:, None, None], self._space.vectors(coordinates), columns))
        self.ready = self.ready | (which & good_enough(modulus, residual, condition, share=MARGIN))
        self.live = ~self.ready

    def _by_lapack(self, some: Tensor, first: bool) -> None:
        """All eigenvalues of the projections of some parts, in one copy to the host."""
        space, count = self._space, len(self.ready)

        def whole(part: Tensor) -> Tensor:
            found = self.values.new_zeros(count, *part.shape[1:])
            return found.index_copy(0, some, part)

        projection, factor = brought(space.projection[some], space.factor[some])
        ritz = leading(projection, factor, torch.Generator().manual_seed(0))
        vector = torch.view_as_real(ritz.coordinates[..., 0])
        told = [t.double().nan_to_num(nan=0.0) for t in (ritz.value.abs(), ritz.residual, ritz.condition, ritz.seen)]
        known = sent(self.ready.device, *told, vector.double().nan_to_num(nan=0.0))
        value, residual, own, seen, coordinates = (whole(part) for part in known)
        which = torch.zeros_like(self.ready).index_fill(0, some, True)
        self._seen = torch.where(which, seen, self._seen) if first else self._seen
        self._take(which, value, residual, torch.maximum(own, self._seen), coordinates)
