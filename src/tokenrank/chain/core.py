"""Construction of a chain: what it is made from, its shape and layout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError, LayoutError
from ..html import note, panel, table
from ..layout import TokenLayout
from ..markov import leading_index
from ..operators import Choice, Kernel, Operator, Path, from_query_key, from_scores, from_weights, reverse
from ..recording.budget import readable
from .starts import Start, moved, start_distribution

if TYPE_CHECKING:
    from PIL.Image import Image
    from typing_extensions import Self

Direction = Literal["forward", "backward"]


class Core:
    """An operator with a layout, and its leading dimensions."""

    operator: Operator
    layout: TokenLayout | None
    picture: Image | None
    caption: str

    def __init__(
        self, weights: Tensor | np.ndarray, layout: TokenLayout | None = None, path: Path | None = None
    ) -> None:
        self._set(from_weights(_tensor(weights), path), layout)

    @classmethod
    def from_qk(
        cls,
        q: Tensor | np.ndarray,
        k: Tensor | np.ndarray,
        scale: float | None = None,
        mask: Tensor | np.ndarray | None = None,
        is_causal: bool = False,
        layout: TokenLayout | None = None,
        path: Path | None = None,
    ) -> Self:
        """softmax(scale · q kᵀ + mask), never materialised.

        Args:
            q: (*batch, heads, N, d).
            k: (*batch, heads or a divisor of it, N, d); grouped heads as in PyTorch.
            scale: factor of the logits; 1/√d by default.
            mask: bool (True may attend) or float (added), broadcastable to (*batch, heads, N, N).
            is_causal: token i sees tokens 0 … i.
            layout: which token is what; optional.
            path: "host" or "device", how products are taken: by default that of the tensors' device. "device" is the
                way of GPUs (all heads at once, half precision where it suffices), and works on a CPU, too.

        Raises:
            ChainError: shapes that do not fit, NaN or infinite entries, a fully masked row, tensors on several
                devices, a device without float64 (MPS).

        Example:
            >>> import torch
            >>> import tokenrank as tr
            >>> q = k = torch.eye(4)[None].expand(12, -1, -1)
            >>> chain = tr.AttentionChain.from_qk(q, k, is_causal=True)
            >>> chain
            AttentionChain(shape=(12, 4, 4), QueryKey, causal)
            >>> chain[0].to_dense()[1]
            tensor([0.3775, 0.6225, 0.0000, 0.0000])
        """
        mask = None if mask is None else _tensor(mask)
        return cls.from_operator(from_query_key(_tensor(q), _tensor(k), scale, mask, is_causal, path), layout)

    @classmethod
    def from_scores(
        cls, scores: Tensor | np.ndarray, layout: TokenLayout | None = None, path: Path | None = None
    ) -> Self:
        """softmax of logits (*batch, N, N); −inf is masked. ``path`` as of ``from_qk``.

        Stored as weights, unless a logit that is not masked lies so far below the others of its row that its weight
        underflows (87 nats in single precision, 708 in double): then the logits are kept, and no step is lost.

        Raises:
            ChainError: not square, empty, NaN or +inf, or a row that is −inf throughout.

        Example:
            >>> import torch
            >>> import tokenrank as tr
            >>> tr.AttentionChain.from_scores(torch.tensor([[0.0, float("-inf")], [0.0, 0.0]])).to_dense()
            tensor([[1.0000, 0.0000],
                    [0.5000, 0.5000]])
        """
        return cls.from_operator(from_scores(_tensor(scores), path), layout)

    @classmethod
    def from_operator(
        cls,
        operator: Operator,
        layout: TokenLayout | None = None,
        picture: Image | None = None,
        caption: str = "",
    ) -> Self:
        """A chain around an operator (``tokenrank.operators``) of shape (*batch, N, N).

        Args:
            operator: the matrices.
            layout: which token is what; optional.
            picture: what the model saw, for those who look at the chain's answers.
            caption: where the chain comes from, in words: model, layer, heads, tokens; printed with its answers.
        """
        chain = cls.__new__(cls)
        chain._set(operator, layout, picture, caption)
        return chain

    def _like(self, operator: Operator, layout: TokenLayout | None, then: str) -> Self:
        """A chain made from this one; its caption says by what."""
        caption = f"{self.caption}, {then}" if self.caption and then else self.caption
        return self.from_operator(operator, layout, self.picture, caption)

    def _set(
        self, operator: Operator, layout: TokenLayout | None, picture: Image | None = None, caption: str = ""
    ) -> None:
        if layout is not None and layout.num_tokens != operator.num_tokens:
            raise LayoutError(
                f"the layout has {layout.num_tokens} tokens ({dict(layout.spans)}), the chain {operator.num_tokens}; "
                "give spans that cover the chain's tokens"
            )
        self.operator, self.layout, self.picture, self.caption = operator, layout, picture, caption

    @property
    def shape(self) -> torch.Size:
        """(*batch, heads, N, N)."""
        return self.operator.shape

    @property
    def batch(self) -> torch.Size:
        """The leading dimensions, heads last."""
        return self.operator.batch

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.operator.num_tokens

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the probabilities: float32 or float64."""
        return self.operator.dtype

    @property
    def device(self) -> torch.device:
        """Where results are returned."""
        return self.operator.device

    @property
    def is_causal(self) -> bool:
        """Whether no token attends to a later one."""
        return self.operator.structure == "lower"

    def to_dense(self) -> Tensor:
        """The weights, (*batch, N, N); O(N²) memory."""
        return self.operator.to_dense()

    def __getitem__(self, index: Any) -> Self:
        """Index the leading dimensions (batch, heads), never the tokens.

        Raises:
            ChainError: an index out of range or with too many entries.
        """
        entries = leading_index(index, self.batch, "tokens are selected with chain.restrict(...)")
        return self._like(self.operator.index(*entries), self.layout, "")

    def _repr_html_(self) -> str:
        layout = "not known" if self.layout is None else f"{self.layout}"
        held, dense = held_bytes(self.operator), math.prod(self.shape) * self.dtype.itemsize
        rows = [
            ("operator", type(self.operator).__name__),
            ("precision", f"{str(self.dtype).removeprefix('torch.')} on {self.device}"),
            ("causal", "yes" if self.is_causal else "no"),
            ("tokens", layout),
            ("memory", f"{readable(held)} held; {readable(dense)} as a matrix"),
        ]
        batch = f"{' × '.join(map(str, self.batch))} chains" if self.batch else "1 chain"
        title = f"AttentionChain: {batch} of {self.num_tokens:,} tokens"
        return panel(title, table(rows), note(self.caption))

    def __repr__(self) -> str:
        kind = type(self.operator).__name__
        layout = "" if self.layout is None else f", {dict(self.layout.spans)}"
        caption = f"; {self.caption}" if self.caption else ""
        causal = ", causal" if self.is_causal else ""
        return f"AttentionChain(shape={tuple(self.shape)}, {kind}{causal}{layout}{caption})"

    def _towards(self, direction: Direction) -> Operator:
        if direction == "forward":
            return self.operator
        if direction == "backward":
            return reverse(self.operator)
        raise ChainError(f"direction = {direction!r}, expected 'forward' or 'backward'")

    def _distribution(self, personalization: Start | None) -> Tensor:
        if personalization is None:
            n = self.num_tokens
            return torch.full((n,), 1 / n, dtype=torch.float64, device=self.device).expand(*self.batch, n)
        return moved(start_distribution(personalization, self.shape, self.layout, "personalization"), self.device)


def _tensor(values: Tensor | np.ndarray) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    try:
        return torch.from_numpy(np.require(values, requirements=["C", "W"]))
    except (TypeError, ValueError) as error:
        raise ChainError(f"{type(values).__name__} is no tensor or array of numbers: {error}") from None


def held_bytes(operator: object) -> int:
    """Bytes of the memory that an operator's tensors keep, each counted once; nothing is computed."""
    storages: dict[int, int] = {}
    left, seen = [operator], set()
    while left:
        thing = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        elif isinstance(thing, Operator | Kernel | Choice):
            left += vars(thing).values()
        elif isinstance(thing, list | tuple):
            left += thing
        elif isinstance(thing, dict):
            left += thing.values()
    return sum(storages.values())


def probability(name: str, value: float) -> None:
    """Raise ChainError unless ``value`` is from 0 to 1."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ChainError(f"{name} = {value!r}, expected a probability from 0 to 1")
