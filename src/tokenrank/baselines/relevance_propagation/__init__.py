"""Layer-wise relevance propagation (LRP) through any PyTorch transformer, without touching it."""

from .propagate import LayerRelevance, attention_relevance

__all__ = ["LayerRelevance", "attention_relevance"]
