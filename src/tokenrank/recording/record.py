"""Attention records: what one attention call leaves behind, and what the calls of one forward share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import CaptureError, LayoutError
from ..layout import TokenLayout, Windows
from .masks import in_dtype
from .quiet import Unnoticed, exact

Branch = Literal["conditional", "unconditional"]
BRANCHES: tuple[Branch, ...] = ("conditional", "unconditional")


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
        reordered: whether samples changed places since the call before, as beams do; None where nothing says it.
    """

    step: int
    timestep: float | None = None
    branches: tuple[str, ...] = ()
    share: int = 1
    reordered: bool | None = None


AttentionKind = Literal["sdpa", "multi_head_attention", "flex", "eager", "weights"]


@dataclass(frozen=True, eq=False, repr=False)
class AttentionRecord:
    """One softmax attention call: softmax(scale · q kᵀ + mask), or its weights where q and k are unknown.

    Attributes:
        name: path of the module under the root; "" for the root itself.
        module: class name of that module.
        kind: how it was seen. "sdpa" and "flex" are PyTorch's fused calls,
            "multi_head_attention" is ``torch.nn.MultiheadAttention``, "eager" is attention
            written by hand whose q, k and mask were recovered and verified, "weights" is a
            softmax of which only the result is known.
        index: place among the attention calls of its forward; the integer that
            ``capture(layers=…)`` takes.
        forward: the call of the root that it belongs to: step, timestep, branches of guidance.
        q: (…, H, N, d), detached; None for weights alone.
        k: (…, H or a divisor of it, M, d), detached; None for weights alone.
        scale: factor of the logits, always explicit; 1.0 for weights alone.
        mask: bool (True may attend) or float (added to the logits), broadcastable to
            (…, H, N, M); or None.
        is_causal: query i sees keys 0 … i.
        sinks: (H,) logits of an attention sink: one more column of the softmax that belongs to no
            key and is dropped after it, so that rows sum to less than one; or None.
        weights: (…, H, N, M), rows summing to one, or to less with a dropped sink; None where q
            and k are given.
        layout: which token is what, without a sink, and of the whole picture where there are windows; or
            the error that says why that is not known. None where nothing says it, where the record is not
            square, and until the block of its capture ends.
        windows: where the windows of an attention within windows stand in the picture.
        batch_size: samples in the record, whose first dimension may hold windows too; None where that is
            not known.
        texts: the token strings of the queries, one layout of text for each sample, or one for all of
            them; () without a tokenizer.
        sides: of cross-attention, which token is what among the queries and among the keys; None where that is not
            known.
    """

    name: str
    module: str
    kind: AttentionKind
    index: int
    forward: Forward = field(default_factory=lambda: Forward(0))
    q: Tensor | None = None
    k: Tensor | None = None
    scale: float = 1.0
    mask: Tensor | None = None
    is_causal: bool = False
    sinks: Tensor | None = None
    weights: Tensor | None = None
    layout: TokenLayout | LayoutError | None = None
    windows: Windows | None = None
    batch_size: int | None = None
    texts: tuple[TokenLayout, ...] = ()
    sides: tuple[TokenLayout | None, TokenLayout | None] = (None, None)

    @property
    def step(self) -> int:
        """0-based count of the root module's calls."""
        return self.forward.step

    @property
    def timestep(self) -> float | None:
        """Of a denoiser; see ``Forward``."""
        return self.forward.timestep

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches of classifier-free guidance in this call; see ``Forward``."""
        return self.forward.branches

    @property
    def shape(self) -> torch.Size:
        """(…, H, N, M) of the attention weights."""
        if self.q is None or self.k is None:
            assert self.weights is not None
            return self.weights.shape
        return torch.Size((*self.q.shape[:-1], self.k.shape[-2]))

    def __repr__(self) -> str:
        """One line, without the numbers."""
        shape = "×".join(map(str, self.shape))
        masked = "causal" if self.is_causal else "masked" if self.mask is not None else ""
        parts = [self.name or "the root", self.module, f"{self.kind} {shape}", masked, f"step {self.step}"]
        return f"AttentionRecord({', '.join(filter(None, parts))})"

    @property
    def is_square(self) -> bool:
        """Whether queries and keys are equally many: self-attention without a cache."""
        return self.shape[-1] == self.shape[-2]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by attribute name."""
        named = {name: getattr(self, name) for name in ("q", "k", "mask", "sinks", "weights")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors take; a mask shared by several records counts in each."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def to_dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights that the model multiplied its values with, (…, H, N, M); O(N · M) memory.

        Rows sum to one; to less where a sink takes its share; to zero where nothing may be attended
        to.
        """
        with Unnoticed(), exact((self.weights if self.q is None else self.q).device):  # type: ignore[union-attr]
            if self.q is None or self.k is None:
                assert self.weights is not None
                return self.weights.to(dtype)
            k = self.k
            if self.q.ndim > 2 and k.shape[-3] not in (1, self.q.shape[-3]):
                k = k.repeat_interleave(self.q.shape[-3] // k.shape[-3], -3)
            logits = torch.matmul(self.q.to(dtype), k.to(dtype).mT).mul_(self.scale)
            return self._softmax(logits)

    def _softmax(self, logits: Tensor) -> Tensor:
        if self.is_causal:
            seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril_()
            logits.masked_fill_(~seen, -torch.inf)
        if self.mask is not None:
            if self.mask.dtype == torch.bool:
                logits.masked_fill_(~self.mask, -torch.inf)
            else:
                logits += in_dtype(self.mask, logits.dtype)
        if self.sinks is None:
            return logits.softmax(-1).nan_to_num_(0.0)
        sinks = self.sinks.to(logits.dtype)[:, None, None].expand(*logits.shape[:-1], 1)
        return torch.cat([logits, sinks], -1).softmax(-1)[..., :-1]


def part(record: AttentionRecord, index: int, count: int) -> AttentionRecord:
    """The ``index``-th of ``count`` equal parts of the batch, as views; see ``Forward.share``.

    The layout stays that of the whole batch.

    Raises:
        CaptureError: the record's batch cannot be divided so.
    """
    size = record.shape[0] if len(record.shape) > 3 else 0
    if not size or size % count:
        raise CaptureError(
            f"the attention of {record.name!r} has shape {tuple(record.shape)}, expected a batch that divides into "
            f"{count} parts; choose other layers"
        )
    begin = index * (size // count)

    def cut(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor.ndim < len(record.shape) or tensor.shape[0] == 1 < size:
            return tensor  # the same for all of the batch
        return tensor.narrow(0, begin, size // count)

    return replace(
        record,
        forward=replace(record.forward, share=record.forward.share * count),
        q=cut(record.q),
        k=cut(record.k),
        mask=cut(record.mask),
        weights=cut(record.weights),
        batch_size=None if record.batch_size is None else record.batch_size // count,
        texts=_texts_of_part(record.texts, index, count),
    )


def _texts_of_part(texts: tuple[TokenLayout, ...], index: int, count: int) -> tuple[TokenLayout, ...]:
    if len(texts) < 2:
        return texts  # the same for all of the batch
    each, rest = divmod(len(texts), count)
    return () if rest else texts[index * each : (index + 1) * each]


def branch_of(record: AttentionRecord, branch: Branch) -> AttentionRecord:
    """The part of the batch that is one of the record's several branches of guidance.

    Raises:
        CaptureError: the record's batch cannot be divided so.
    """
    half = part(record, record.branches.index(branch), len(record.branches))
    return replace(half, forward=replace(half.forward, branches=(branch,)))
