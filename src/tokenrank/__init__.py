"""PageRank for attention: softmax attention of any transformer, read as a Markov chain."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import baselines, distributed, errors, evaluate, samples, tasks, view
    from .analysis import Analysis, analyze
    from .chain import AttentionChain, CrossAttention, TokenMap, bipartite, compose
    from .explorer import Explorer
    from .explorer.explore import explore
    from .layout import TokenLayout, at
    from .mapping.map import map
    from .mapping.mapped import Mapped
    from .markov import Certificate, Lambda2
    from .models import Model, Sound, load
    from .observation import Denoised, Observation
    from .reading import observe
    from .trace import Trace, capture, check_layout, from_attentions, from_cache, from_query_key, load_trace
    from .untrusted import reading_budget

__version__ = "0.1.0"

__all__ = [
    "Analysis",
    "AttentionChain",
    "Certificate",
    "CrossAttention",
    "Denoised",
    "Explorer",
    "Lambda2",
    "Mapped",
    "Model",
    "Observation",
    "Sound",
    "TokenLayout",
    "TokenMap",
    "Trace",
    "analyze",
    "at",
    "baselines",
    "bipartite",
    "capture",
    "check_layout",
    "compose",
    "distributed",
    "errors",
    "evaluate",
    "explore",
    "from_attentions",
    "from_cache",
    "from_query_key",
    "load",
    "load_trace",
    "map",
    "observe",
    "reading_budget",
    "samples",
    "tasks",
    "view",
]

_HOMES = {
    "Analysis": "analysis",
    "AttentionChain": "chain",
    "Certificate": "markov",
    "CrossAttention": "chain",
    "Denoised": "observation",
    "Explorer": "explorer",
    "Lambda2": "markov",
    "Mapped": "mapping",
    "Model": "models",
    "Observation": "observation",
    "Sound": "models",
    "TokenLayout": "layout",
    "TokenMap": "chain",
    "Trace": "trace",
    "analyze": "analysis",
    "at": "layout",
    "bipartite": "chain",
    "capture": "trace",
    "check_layout": "trace",
    "compose": "chain",
    "explore": "explorer",
    "from_attentions": "trace",
    "from_cache": "trace",
    "from_query_key": "trace",
    "load": "models",
    "load_trace": "trace",
    "map": "mapping",
    "observe": "reading",
    "reading_budget": "untrusted",
}


def __getattr__(name: str) -> Any:
    # public names are imported when they are used, so that `tokenrank --help` does not wait for PyTorch
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
