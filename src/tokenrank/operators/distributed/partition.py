"""Which tokens each rank holds, and how vectors are cut and put together by it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ...errors import ChainError


class Partition:
    """A partition of N tokens over ranks.

    Args:
        tokens: the indices of each rank's tokens, increasing, int64 (n_r,), some perhaps empty; together 0 … N − 1,
            each once.
        device: where the vectors live that are cut.

    Raises:
        ChainError: a rank's indices do not increase, or a token is held twice or by nobody.
    """

    def __init__(self, tokens: Sequence[Tensor], device: torch.device | None = None) -> None:
        self.tokens = tuple(part.cpu() for part in tokens)
        self.sizes = tuple(len(part) for part in self.tokens)
        self.num_tokens = sum(self.sizes)
        self.device = torch.device("cpu") if device is None else device
        _check(self.tokens, self.num_tokens)
        order = torch.cat(self.tokens)
        ordered = torch.arange(self.num_tokens)
        self.in_order = torch.equal(order, ordered)  # as they are concatenated
        self._place = torch.empty_like(order).index_copy_(0, order, ordered).to(self.device)
        self._index = tuple(part.to(self.device) for part in self.tokens)
        self._runs = tuple(_run(part) for part in self.tokens)

    def part(self, x: Tensor, rank: int, dim: int = -2) -> Tensor:
        """What a rank's tokens have of x, whose dimension ``dim`` is N long; a view where they follow each other."""
        run = self._runs[rank]
        if run is None:
            return x.index_select(dim, self._index[rank])
        return x.narrow(dim, run, self.sizes[rank])

    def joined(self, parts: Sequence[Tensor], dim: int = -2) -> Tensor:
        """Parts of the ranks, in the order of the tokens."""
        whole = torch.cat(list(parts), dim)
        return whole if self.in_order else whole.index_select(dim, self._place)

    def within(self, rank: int, start: int, stop: int) -> slice:
        """Places in the shard of a rank of its tokens among start … stop − 1."""
        ends = torch.searchsorted(self.tokens[rank], torch.tensor([start, stop]))
        return slice(int(ends[0]), int(ends[1]))

    def kept(self, keep: Tensor, rank: int) -> tuple[Partition, Tensor]:
        """The partition of the tokens ``keep``, (M,) increasing, numbered anew; and which places of a rank's shard
        stay."""
        new = torch.full((self.num_tokens,), -1)
        new[keep.cpu()] = torch.arange(len(keep))
        numbers = [new[part] for part in self.tokens]
        places = (numbers[rank] >= 0).nonzero()[:, 0].to(self.device)
        return Partition([part[part >= 0] for part in numbers], self.device), places


def contiguous(sizes: Sequence[int], device: torch.device | None = None) -> Partition:
    """Tokens in the order of the ranks, as many as each has."""
    ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
    return Partition([torch.arange(*pair) for pair in pairwise(ends)], device)


def zigzag(num_tokens: int, ranks: int) -> list[Tensor]:
    """The tokens of each rank, for causal chains: one piece from the front and one from the back.

    The sequence is cut into 2R pieces; rank r holds the pieces r and 2R − 1 − r, so that all ranks see about as many
    keys. In the order of the ranks the last one would see all of them and the first few (docs: "Long sequences").

    Args:
        num_tokens: N.
        ranks: R.

    Returns:
        Increasing token indices, one tensor a rank.

    Example:
        >>> import tokenrank as tr
        >>> [tokens.tolist() for tokens in tr.distributed.zigzag(8, 2)]
        [[0, 1, 6, 7], [2, 3, 4, 5]]
    """
    if ranks < 1:
        raise ChainError(f"ranks = {ranks}, expected at least one")
    if isinstance(num_tokens, bool) or not isinstance(num_tokens, int) or num_tokens < 0:
        raise ChainError(f"num_tokens = {num_tokens!r}, expected how many tokens all ranks have together")
    pieces = torch.arange(num_tokens).tensor_split(2 * ranks)
    return [torch.cat([pieces[rank], pieces[2 * ranks - 1 - rank]]) for rank in range(ranks)]


def _run(tokens: Tensor) -> int | None:
    """The first of tokens that follow each other; None where they do not."""
    if not len(tokens):
        return 0
    return int(tokens[0]) if int(tokens[-1]) - int(tokens[0]) == len(tokens) - 1 else None


def _check(tokens: Sequence[Tensor], n: int) -> None:
    for rank, part in enumerate(tokens):
        if part.dtype != torch.int64 or part.ndim != 1:
            raise ChainError(
                f"tokens of rank {rank} are {part.dtype} of shape {tuple(part.shape)}, expected token indices: "
                "torch.int64 of one dimension"
            )
        if bool((part.diff() <= 0).any()):
            raise ChainError(
                f"tokens of rank {rank} do not increase, expected its token indices in order; sort them, and q and k "
                "with them"
            )
    found = torch.cat(list(tokens)).sort().values
    if not torch.equal(found, torch.arange(n)):
        expected = torch.arange(n)
        token = int((found != expected).nonzero()[0, 0])
        value = int(found[token])
        holders = " and ".join(f"rank {rank}" for rank, part in enumerate(tokens) if bool((part == value).any()))
        what = f"token {token} is held by no rank" if value > token else f"token {value} is held by {holders}"
        raise ChainError(f"{what}; expected each of 0 … {n - 1} on one rank")
