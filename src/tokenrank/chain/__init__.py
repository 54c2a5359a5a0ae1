"""AttentionChain, the object people hold; one file a kind of question."""

from .core import Direction
from .derived import Derived
from .passage import Passage
from .starts import Start, start_distribution
from .token_map import TokenMap
from .walks import Walks

__all__ = ["AttentionChain", "Direction", "Start", "TokenMap", "bipartite", "compose", "start_distribution"]


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

    Raises:
        ChainError: not square, empty, NaN, negative, or a row that does not sum to one.
        LayoutError: a layout of another number of tokens.
    """


from .composition import bipartite, compose  # noqa: E402  they hand out chains
