"""A chain of several ranks from what each of them has, checked on all of them before anything is computed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...errors import ChainError, first_line
from .. import checks
from ..build import one_device, one_key_head_per_query_head
from ..device.path import path_for
from .masks import Shard, columns_of, keys_of, refuse_empty, rows_of, whole_bias, with_triangle
from .partition import Partition, contiguous
from .query_key import RingQueryKey
from .ring import Ring

# what has to be the same on all ranks, in words
ALIKE = {
    "batch": "leading dimensions",
    "width": "d",
    "dtype": "precision",
    "device": "kind of device",
    "scale": "scale",
    "is_causal": "is_causal",
    "mask": "mask",
    "key_mask": "key_mask",
    "tokens": "tokens",
    "timeout": "timeout",
}


def from_query_key(
    q: Tensor,
    k: Tensor,
    ring: Ring,
    scale: float | None = None,
    mask: Tensor | None = None,
    is_causal: bool = False,
    key_mask: Tensor | None = None,
    tokens: Tensor | None = None,
) -> RingQueryKey:
    """The chain softmax(scale · q kᵀ + mask) of tokens that are spread over ranks; called by all of them.

    The arguments are those of ``tokenrank.distributed.from_qk``.

    Raises:
        ChainError: on every rank, naming the ranks: shapes, precisions, scales or masks that differ, a rank's tensors
            that are no queries and keys, tokens that are no partition, a row that is fully masked.
        DistributedError: a rank does not answer.
    """
    if not isinstance(ring, Ring):
        raise ChainError(f"ring is a {type(ring).__name__}, expected the ranks: ring = tr.distributed.Ring()")
    found: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        found["q"], found["k"] = _local(q, ring, "q"), _local(k, ring, "k")
        found["q"], found["k"] = _checked(found["q"], found["k"])
        found["scale"] = found["q"].shape[-1] ** -0.5 if scale is None else float(scale)
        checks.positive_scale(found["scale"])
        return {
            "batch": list(found["q"].shape[:-2]),
            "width": found["q"].shape[-1],
            "dtype": str(found["q"].dtype).removeprefix("torch."),
            "device": found["q"].device.type,
            "scale": found["scale"],
            "is_causal": bool(is_causal),
            "mask": _kind(mask),
            "key_mask": _kind(key_mask),
            "tokens": "given" if tokens is not None else "in the order of the ranks",
            "timeout": ring.timeout,
            "n": found["q"].shape[-2],
        }

    told = _told(ring, look)
    for name, words in ALIKE.items():
        _alike(ring, words, [rank[name] for rank in told])
    sizes, q, k = [int(rank["n"]) for rank in told], found["q"], found["k"]
    n, scale = sum(sizes), found["scale"]
    if not n:
        raise ChainError("no rank has a token, expected at least one")

    def look_again() -> dict[str, Any]:  # at what depends on how many tokens there are
        found["rows"], found["bias"] = rows_of(mask, q, n), keys_of(key_mask, q, n)
        found["tokens"] = _tokens(tokens, q)
        return {}

    _told(ring, look_again)
    _finite_logits(ring, q, k, scale)
    partition = _partition(ring, sizes, found["tokens"], q.device)
    bias = None if found["bias"] is None else whole_bias(ring, partition, found["bias"], is_causal)
    if found["rows"] is None:
        return RingQueryKey(ring, partition, q, k, scale, is_causal, bias=bias)
    rows, structure = with_triangle(ring, partition, found["rows"].expand(*found["rows"].shape[:-2], -1, n), is_causal)
    shard = Shard(rows, lambda: columns_of(ring, partition, rows))
    chain = RingQueryKey(ring, partition, q, k, scale, False, structure, bias, shard)
    empty = chain._empty()
    if empty is not None:
        refuse_empty(empty)
    return chain


def _told(ring: Ring, look: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """What every rank finds in its own tensors; an error of one of them is raised by all."""
    mine: dict[str, Any]
    trouble: Exception | None = None
    try:
        mine = look()
    except ChainError as error:
        mine, trouble = {"error": str(error)}, error
    except Exception as error:  # whatever it is, the others would wait
        mine, trouble = {"error": f"{type(error).__name__}: {first_line(error)}"}, error
    with ring.step("a new chain"):
        told = [json.loads(text) for text in ring.told(json.dumps(mine))]
    bad = [rank for rank, facts in enumerate(told) if "error" in facts]
    if bad:
        if trouble is not None and not isinstance(trouble, ChainError):
            raise trouble
        raise ChainError(f"{ring.names(bad)}: {told[bad[0]]['error']}") from trouble
    return told


def _alike(ring: Ring, words: str, values: list[Any]) -> None:
    kinds: dict[str, list[int]] = {}
    for rank, value in enumerate(values):
        kinds.setdefault(str(value), []).append(rank)
    if len(kinds) > 1:
        each = "; ".join(f"{value} on {ring.names(ranks)}" for value, ranks in kinds.items())
        raise ChainError(f"{words}: {each}; expected the same on every rank")


def _local(tensor: Tensor, ring: Ring, name: str) -> Tensor:
    """A rank's own part of a DTensor that is cut along its tokens; other tensors are that."""
    kinds = sys.modules.get("torch.distributed.tensor")  # who has one has imported it, which takes a second
    if kinds is None or not isinstance(tensor, kinds.DTensor):
        return tensor.detach()
    mesh, cut = tensor.device_mesh, kinds.Shard(tensor.ndim - 2)
    if mesh.ndim != 1 or tuple(tensor.placements) != (cut,):
        raise ChainError(
            f"{name} is a DTensor with placements {tensor.placements} on a mesh of {mesh.ndim} dimensions, expected "
            f"(Shard(dim={tensor.ndim - 2}),) on one: its tokens cut over the ranks; "
            f"{name}.redistribute(placements=[Shard({tensor.ndim - 2})])"
        )
    ranks = tuple(int(rank) for rank in mesh.mesh.flatten())
    if ranks != ring.ranks:
        raise ChainError(
            f"{name} lies on ranks {list(ranks)} and the ring has {list(ring.ranks)}, expected the same; "
            "tr.distributed.Ring(mesh.get_group())"
        )
    return tensor.to_local().detach()


def _checked(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys of one rank, in one precision, a key head for each query head."""
    path_for(q.device)
    if q.ndim < 2 or k.ndim != q.ndim or q.shape[-1] != k.shape[-1] or q.shape[-2] != k.shape[-2]:
        raise ChainError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}, expected (*batch, heads, n, d) for both, of the "
            "same tokens"
        )
    if not math.prod(q.shape[:-2]) or not q.shape[-1]:
        raise ChainError(f"q has shape {tuple(q.shape)}, expected at least one chain and one dimension")
    one_device(q=q, k=k)
    k = one_key_head_per_query_head(q, k)
    checks.floating("q", q)
    checks.floating("k", k)
    dtype = torch.promote_types(q.dtype, k.dtype)
    q, k = q.to(dtype), k.to(dtype)
    checks.finite("q", q)
    checks.finite("k", k)
    return q.contiguous(), k.contiguous()


def _kind(mask: Tensor | None) -> str:
    if mask is None:
        return "none"
    return "added" if mask.is_floating_point() else "bool"  # others are refused by who has them


def _tokens(tokens: Tensor | None, q: Tensor) -> Tensor | None:
    if tokens is not None and not isinstance(tokens, Tensor):
        raise ChainError(
            f"tokens is a {type(tokens).__name__}, expected a tensor of one index for each query: torch.tensor(tokens)"
        )
    if tokens is not None and (tokens.dtype != torch.int64 or tokens.shape != (q.shape[-2],)):
        raise ChainError(
            f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}, expected torch.int64 of shape "
            f"({q.shape[-2]},): one index for each query"
        )
    return None if tokens is None else tokens.to(q.device)


def _partition(ring: Ring, sizes: list[int], tokens: Tensor | None, device: torch.device) -> Partition:
    if tokens is None:
        return contiguous(sizes, device)
    with ring.step("which tokens each rank has"):
        parts = ring.gathered(tokens[:, None], sizes)
    return Partition([part[:, 0] for part in parts], device)


def _finite_logits(ring: Ring, q: Tensor, k: Tensor, scale: float) -> None:
    none = torch.zeros(1, dtype=torch.float64, device=q.device)
    lengths = torch.stack([torch.cat([t.double().norm(dim=-1).flatten(), none]).amax() for t in (q, k)])
    with ring.step("the longest query and key"):
        lengths = ring.most(lengths)
    checks.largest_logit(scale * float(lengths.prod()))
