"""Attention written by hand: q kᵀ followed through scale, mask and casts to the softmax.

``logits`` is the algebra of what was done to q kᵀ, ``follow`` carries it through PyTorch's functions,
``ends`` finds the products and softmaxes where it begins and ends, and verifies q, k, scale and mask
against the weights that the model computed.
"""

from .ends import SOFTMAX, Ends, HandWritten, fits, softmax_arguments
from .follow import Follower, Tags
from .logits import Fold

__all__ = ["SOFTMAX", "Ends", "Fold", "Follower", "HandWritten", "Tags", "fits", "softmax_arguments"]
