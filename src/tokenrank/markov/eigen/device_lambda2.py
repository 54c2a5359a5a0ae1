"""|λ2| of all heads at once on a device: classes where there are several, one Krylov space, one product in float64.

What ``lambda2`` does on a host with a space for a few heads, a look after every other step and a factorisation for
every head is done here in fixed shapes. The host reads one flag a head each ``constants.DEVICE_CHECKED`` applies;
heads that are settled are frozen. Small dense problems that are rare (classes of few tokens, projections in which
more than two eigenvalues have one modulus, all eigenvalues of a head that does not settle) are copied to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...memory import free_bytes
from ...operators import Dense, Operator, is_everywhere
from ..engine import constants
from ..engine.batching import rows_of
from ..engine.transfer import brought, sent
from ..support.communicating import Graph
from ..support.irreducible import connected_soon
from .device_search import DeviceSearch, Parts, good_enough
from .found import Found, exact, larger
from .host_copy import HostCopy
from .located import Block, classes, largest_modulus, locate, relative_error, small

SHARE = 4  # of the memory that is free, what the vectors of a space may take: one part in so many


def every_eigenvalue(flat: Operator) -> Found:
    """Chains (h, N, N) of few tokens: all their eigenvalues, on the host, with proved discs about them."""
    chains = HostCopy.of(flat)
    known = locate(chains.weights, classes(chains), relative_error(chains))
    first = known.values[:, 0].abs()
    values = torch.minimum(torch.maximum(first, known.lower), known.upper)
    found = exact(values, torch.maximum(known.upper - values, values - known.lower), "eigenvalues")
    return _moved(found, flat.device)


def on_device(flat: Operator, seed: int) -> Found:
    """Chains (h, N, N) of more tokens: classes where there are several, a Krylov space for all that is left.

    Returns what is known of each; with the meaning that it has on a host.
    """
    heads, n = flat.shape[:2]
    if (isinstance(flat, Dense) or n * n * 8 <= constants.DENSE_BYTES) and not _one_class(flat):
        graphs = classes(flat)
        if any(len(g.recurrent) > 1 or int(g.period[0]) > 1 for g in graphs):
            return _by_classes(flat, graphs, seed)
    return _iterated(flat, Parts(list(range(heads))), seed)


def _one_class(flat: Operator) -> bool:
    """Whether all chains are known to be one aperiodic class, in one look; otherwise the host has to look for them."""
    support = flat.support()
    return is_everywhere(support) or bool(connected_soon(support.reshape(-1, *support.shape[-2:])).all())


def _by_classes(flat: Operator, graphs: list[Graph], seed: int) -> Found:
    """What classes of few tokens have is read off on the host; large ones share one Krylov space, masked."""
    heads = flat.shape[0]
    diagonal, relative, entries = _small_classes(flat, graphs)
    found = Found.nothing(heads, torch.device("cpu"))
    blocks: list[Block] = []
    for head, graph in enumerate(graphs):
        value, lower, upper, left = largest_modulus(
            diagonal[head], partial(entries, head), graph, relative[head], constants.ALL_EIGENVALUES
        )
        one = exact(value[None], torch.maximum(upper - value, value - lower)[None], "classes")
        found.put(slice(head, head + 1), one)
        blocks += [replace(block, head=head) for block in left]
    found = _moved(found, flat.device)
    if not blocks:
        return found
    states = np.zeros((len(blocks), flat.num_tokens), dtype=bool)
    for row, block in zip(states, blocks, strict=True):
        row[block.states] = True
    recurrent = torch.tensor([block.recurrent for block in blocks])
    here, closed = sent(flat.device, torch.tensor(states), recurrent[:, None, None])
    parts = Parts([block.head for block in blocks], here, closed)
    large = _iterated(flat, parts, seed)
    for i, head in enumerate(parts.heads):
        one, other = (_one(x, j) for x, j in ((found, head), (large, i)))
        found.put(slice(head, head + 1), larger(one, other))
    return found


def _small_classes(flat: Operator, graphs: list[Graph]) -> tuple[Tensor, Tensor, Callable[[int, np.ndarray], Tensor]]:
    """What the host reads of chains (h, N, N), in one copy: A_ii (h, N), how far entries may be off, relatively, (h,),
    and those between the states of each class whose eigenvalues are all taken: of a head and states (m,), (m, m).
    """
    wanted = [(head, states) for head, graph in enumerate(graphs) for states in small(graph, constants.ALL_EIGENVALUES)]
    blocks = [_entries(flat.index(slice(head, head + 1)), states) for head, states in wanted]
    diagonal, relative, *blocks = brought(flat.diagonal(torch.float64), relative_error(flat), *blocks)
    known = {(head, states.tobytes()): block for (head, states), block in zip(wanted, blocks, strict=True)}
    return diagonal, relative, lambda head, states: known[head, states.tobytes()]


def _entries(one: Operator, states: np.ndarray) -> Tensor:
    """A[states, states] of one chain (1, N, N) in float64, on its device."""
    index = torch.tensor(states)
    return rows_of(one, index)[0][:, sent(one.device, index)[0]]


def _iterated(flat: Operator, parts: Parts, seed: int) -> Found:
    """Parts by products, as many at a time as have room for their vectors."""
    n, few = flat.num_tokens, len(parts.heads)
    dimension = min(constants.DEVICE_DIMENSION, max(constants.DEVICE_WIDTH, n // 2))
    looked_at = constants.DEVICE_CHECKED * constants.DEVICE_WIDTH
    dimension -= dimension % looked_at if dimension > looked_at else 0
    free = free_bytes(flat.device)
    if free is not None:
        few = max(1, min(few, free // SHARE // (4 * n * (dimension + constants.DEVICE_WIDTH))))
    found = Found.nothing(len(parts.heads), flat.device)
    for start in range(0, len(parts.heads), few):
        some = list(range(start, min(start + few, len(parts.heads))))
        found.put(slice(some[0], some[-1] + 1), _together(flat, parts.some(some), dimension, seed))
    return found


def _together(flat: Operator, parts: Parts, dimension: int, seed: int) -> Found:
    search = DeviceSearch(_chains(flat, parts.heads), parts, dimension, seed)
    search.run()
    found, doubted = _measured(search)
    if any(ready for _, ready in doubted):  # for products in half precision it was; a space of better ones, once
        search.refine(search.ready & found.uncertain)
        found, doubted = _better(found, *_measured(search))
    left = [i for i, _ in doubted]
    if left and flat.num_tokens <= constants.LAMBDA2_STUBBORN and parts.states is None:
        places, heads = sent(flat.device, torch.tensor([left, [parts.heads[i] for i in left]]))[0]
        found.put(places, every_eigenvalue(flat.index(heads)))
    elif not all(ready for _, ready in doubted):
        growth = torch.maximum(found.values, search.growth())
        found.values = torch.where(search.ready, found.values, growth)
        found.applies = search.applies
    found.values = found.values.clamp(max=1)
    return found


def _better(first: Found, found: Found, doubted: list[tuple[int, bool]]) -> tuple[Found, list[tuple[int, bool]]]:
    """What has the smaller residual, where both are in doubt."""
    kept = found.uncertain & (first.residual < found.residual)
    found.values = torch.where(kept, first.values, found.values)
    found.residual = torch.where(kept, first.residual, found.residual)
    return found, doubted


def _measured(search: DeviceSearch) -> tuple[Found, list[tuple[int, bool]]]:
    """What is known after a product in float64, and the parts that are in doubt, with whether the space had them."""
    residual = search.measure()
    uncertain = ~search.ready | ~good_enough(search.values, residual, search.condition)
    told = (uncertain.long() + (uncertain & search.ready)).tolist()
    bound = torch.full_like(residual, torch.inf)
    found = Found(search.values, residual, bound, uncertain, search.applies, "arnoldi", bounded=False)
    return found, [(i, state == 2) for i, state in enumerate(told) if state]


def _chains(flat: Operator, heads: list[int]) -> Operator:
    if heads == list(range(flat.shape[0])):
        return flat
    return flat.index(sent(flat.device, torch.tensor(heads))[0])


def _moved(found: Found, device: torch.device) -> Found:
    """From the host to a device."""
    known = sent(device, found.values, found.residual, found.bound, found.uncertain)
    values, residual, bound, uncertain = known
    bounded = bool((found.bound < 1).any())
    return Found(values, residual, bound, uncertain, found.applies, found.method, bounded)


def _one(found: Found, i: int) -> Found:
    part = slice(i, i + 1)
    known = (found.values[part], found.residual[part], found.bound[part], found.uncertain[part])
    return Found(*known, found.applies, found.method, found.bounded)
