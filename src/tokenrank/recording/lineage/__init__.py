"""Attention written by hand: q kᵀ followed through scale, mask and casts to the softmax.

``logits`` is the algebra of what was done to q kᵀ, ``follow`` carries it through PyTorch's functions,
``ends`` finds the products and softmaxes where it begins and ends, ``verify`` compares q, k, scale and mask
with the weights that the model computed, row by row.
"""

from .ends import SOFTMAX, Ends, HandWritten, softmax_arguments
from .follow import Follower, Tags
from .logits import Fold
from .verify import Explained, explained

__all__ = ["SOFTMAX", "Ends", "Explained", "Fold", "Follower", "HandWritten", "Tags", "explained", "softmax_arguments"]
