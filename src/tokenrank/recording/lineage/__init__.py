"""Attention written by hand: q kᵀ followed through scale, mask and casts to the softmax.

``tags`` remembers what a tensor is, ``follow`` carries that through PyTorch's functions, ``logits``
puts q, k, scale and mask together again, ``fit`` verifies them against the weights that the model
computed, ``ends`` ties it to the journal.
"""

from .ends import observers

__all__ = ["observers"]
