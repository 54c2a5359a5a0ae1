"""The network that is kept: fewer rows of the embedding, and of the last layer its queries and keys."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BertModel


def cut_network(whole: BertModel, kept: Sequence[int]) -> BertModel:
    """A copy that knows the pieces ``kept`` alone and whose last layer gives attention and nothing else.

    On the same tokens every layer attends exactly as in the whole network. What the last layer would do with its
    attention (values, output, feed-forward, norms) is zero, and so is ``last_hidden_state``. There is no pooler.
    """
    config = copy.deepcopy(whole.config)
    config.vocab_size, config.pad_token_id = len(kept), 0
    cut = BertModel(config, add_pooling_layer=False).eval()
    state = {name: value for name, value in whole.state_dict().items() if not name.startswith("pooler.")}
    words = "embeddings.word_embeddings.weight"
    state[words] = state[words][torch.as_tensor(kept)]
    last = f"encoder.layer.{config.num_hidden_layers - 1}."
    for name, value in state.items():
        if name.startswith(last) and not _attends(name):
            state[name] = torch.zeros_like(value)
    cut.load_state_dict(state)
    return cut


def unused_token_types(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One text is one segment: the second row is never read, and is zero."""
    name = "embeddings.token_type_embeddings.weight"
    kept = state[name].clone()
    kept[1:] = 0
    return {**state, name: kept}


def _attends(name: str) -> bool:
    return ".attention.self.query." in name or ".attention.self.key." in name
