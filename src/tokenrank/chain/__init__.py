"""AttentionChain, the object people hold; one file a kind of question."""

from .core import Direction
from .cross import CrossAttention
from .derived import Derived
from .many_starts import Starts, start_distributions
from .passage import Passage
from .starts import Start, TokenSet, start_distribution, token_set
from .token_map import TokenMap
from .walks import Walks

__all__ = [
    "AttentionChain",
    "CrossAttention",
    "Direction",
    "Start",
    "Starts",
    "TokenMap",
    "TokenSet",
    "bipartite",
    "compose",
    "start_distribution",
    "start_distributions",
    "token_set",
]


class AttentionChain(Walks, Passage, Derived):
    """Softmax attention as a batch of Markov chains; shape (*batch, heads, N, N).

    ``A[..., i, j]`` is the probability of going from query i to key j. Leading dimensions are
    kept: every result has them in front. Made from weights here, from queries and keys with
    ``from_qk`` (matrix-free), from logits with ``from_scores``, or by ``tr.capture``.

    Args:
        weights: (*batch, N, N), rows summing to one; tensor or array. Half precision is widened
            to float32. Row sums off by no more than the rounding of the given dtype are
            divided out.
        layout: which token is what; optional.
        path: "host" or "device", how products are taken; by default that of the tensors' device (``from_qk``).

    Raises:
        ChainError: not square, empty, NaN, negative, or a row that does not sum to one.
        LayoutError: a layout of another number of tokens.

    Example:
        >>> import tokenrank as tr
        >>> weights = [[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]
        >>> chain = tr.AttentionChain(weights, tr.TokenLayout.text(["a", "cat", "sat"]))
        >>> chain
        AttentionChain(shape=(3, 3), Dense, {'text': 3})
        >>> chain.tokenrank(alpha=1).values
        tensor([0.2500, 0.5000, 0.2500], dtype=torch.float64)
    """


from .composition import bipartite, compose  # noqa: E402  they hand out chains
