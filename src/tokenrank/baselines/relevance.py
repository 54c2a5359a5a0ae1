"""Relevance of attention weights (LRP): partial LRP, and transformer attribution."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from typing_extensions import Unpack

from ..chain import TokenMap
from ..observation import Observation
from ..reading import Reading, Source, observe
from .flow import checked_start_layer
from .gradients import attention_gradients, backward, carried, chosen_class, read_row, run_retaining, square_layers
from .registry import register
from .relevance_rules import RelevanceMode
from .rows import on_patches, read_distribution


@dataclass(frozen=True, eq=False)
class LayerRelevance:
    """One layer.

    Attributes:
        name: of the module that computed the attention.
        relevance: R, (heads, N, N), of either sign: what arrives at each attention weight from 1 at the class.
    """

    name: str
    relevance: Tensor


def attention_relevance(
    source: Source, *, target: int | None = None, **reading: Unpack[Reading]
) -> tuple[LayerRelevance, ...]:
    """Layer-wise relevance propagation from a class's logit to the attention weights of every layer.

    Rules of Chefer, Gur and Wolf (CVPR 2021), section 3.1, α = 1: z⁺ for linear maps, halves for matrix products,
    contributions for sums, and everything to the input of norms, activations and softmax (the rules one by one:
    ``relevance_rules.py``). Relevance starts as 1 at the class and 0 at others. The forward runs once
    more; the model is not touched. The answer is kept in the observation, in the order of ``Observation.layers``.

    Args:
        source, reading: see ``tr.observe``; a classifier of pictures.
        target: index of the class; the predicted one where None.

    Raises:
        InputError: the model has no classifier or no such class, or attention was captured before.
        CaptureError: the weights of a layer cannot be seen, or relevance would pass a function without a rule.
    """
    observation = observe(source, **reading)
    index = chosen_class(observation, target)
    return observation.keep(("relevance", index), lambda: _relevance(observation, index))


@register("transformer_attribution", needs=("class", "gradients"))
def transformer_attribution(
    source: Source, *, target: int | None = None, start_layer: int = 1, **reading: Unpack[Reading]
) -> TokenMap:
    """Relevance of the patches for a class: Āˡ = I + mean_h (∇Aˡ ⊙ Rˡ)⁺, C = Āᴸ ⋯ Āˢ, the row of CLS.

    Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR 2021), equations 13 and
    14; Rˡ is the relevance of the attention weights (``attention_relevance``). Rows are not normalised. Values ≥ 0.
    A model without CLS: mean of the patches' rows.

    Args:
        source, reading: see ``tr.observe``; a classifier of pictures.
        target: index of the class; the predicted one where None.
        start_layer: s, the first layer of the product, from 0. The paper's scripts leave layer 0 out.

    Raises:
        InputError: the model has no classifier, no such class or no such layer, or attention was captured before.
        CaptureError: gradients or relevance cannot be had, or layers differ in their tokens.
    """
    observation = observe(source, **reading)
    index = chosen_class(observation, target)
    first = checked_start_layer(start_layer, len(observation.layers))
    gradients = square_layers(attention_gradients(observation, target=index))
    relevance = attention_relevance(observation, target=index)
    pairs = [(g.gradient, r.relevance) for g, r in zip(gradients, relevance, strict=True)]
    return observation.map(on_patches(observation, carried(pairs[first:], read_distribution(observation))))


@register("partial_lrp", needs=("class", "gradients"))
def partial_lrp(source: Source, *, target: int | None = None, **reading: Unpack[Reading]) -> TokenMap:
    """Relevance that reaches the attention of CLS in the last layer: mean_h (R_h[CLS, p])⁺.

    Voita et al., "Analyzing Multi-Head Self-Attention" (ACL 2019), stop the propagation there; the rules and the
    reduction are those that Chefer et al. (CVPR 2021) compare with; see ``attention_relevance``. Values ≥ 0, not
    normalised. A model without CLS: mean of the patches' rows, after the positive part.

    Args:
        source, reading: see ``tr.observe``; a classifier of pictures.
        target: index of the class; the predicted one where None.

    Raises:
        InputError: the model has no classifier or no such class, or attention was captured before.
        CaptureError: relevance cannot be carried; see ``attention_relevance``.
    """
    observation = observe(source, **reading)
    last = attention_relevance(observation, target=target)[-1]
    return observation.map(read_row(observation, last.relevance.clamp(min=0)).mean(0))


def _relevance(observation: Observation, target: int) -> tuple[LayerRelevance, ...]:
    logits, weights = run_retaining(observation, RelevanceMode(observation.model.module))
    arrived = backward(observation, logits, target, weights)
    return tuple(LayerRelevance(name, r) for name, r in zip(observation.layers, arrived, strict=True))
