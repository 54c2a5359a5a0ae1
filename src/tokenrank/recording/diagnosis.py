"""Diagnosis of an empty recording: why nothing was seen, in words and with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import CaptureError, TokenRankError


@dataclass(frozen=True)
class Sighting:
    """What a recorder without records knows.

    Attributes:
        model: class name of the root.
        calls: forward calls of the root.
        seen: attention modules seen under the root, kept or not.
        outside: attention calls seen outside of the root.
        other_thread: whether the root ran in another thread.
        other_task: whether the root ran in another asyncio task.
        cuda_graph: whether attention was seen while a CUDA graph was being recorded.
        scripted: whether the root has TorchScript in it.
        opaque: name → calls of kernels that hide their attention.
        functions: whether any torch function was seen.
    """

    model: str
    calls: int
    seen: int
    outside: int
    other_thread: bool
    other_task: bool
    cuda_graph: bool
    scripted: bool
    opaque: Mapping[str, int]
    functions: bool


def explain_empty(sighting: Sighting) -> CaptureError:
    """The error for a block in which no attention was recorded."""
    return CaptureError(f"no attention was recorded of {sighting.model}: {_reason(sighting)}")


def explain_unmatched(lines: Sequence[str], kept: int) -> CaptureError:
    """The error for filter entries that met no attention."""
    rest = f"; what the other entries matched is kept ({kept} records)" if kept else ""
    return CaptureError(f"no attention matched {'; '.join(lines)}{rest}")


def explain_fault(fault: Exception) -> CaptureError:
    """The error for an exception inside the capture; the model itself never saw it."""
    if isinstance(fault, TokenRankError):
        return CaptureError(str(fault))
    return CaptureError(
        f"capturing failed with {type(fault).__name__}: {fault}; the model and its outputs are not affected. If it is "
        "not a function that you passed as layers= or steps=, please report it with the model's name"
    )


def _reason(s: Sighting) -> str:
    if s.seen:
        return (
            f"{s.seen} modules with attention ran and none was selected; it made {s.calls} forward calls, "
            f"so check layers=, branch=, and steps= (expected 0 … {max(0, s.calls - 1)})"
        )
    if s.opaque:
        kernels = ", ".join(f"{name} × {count}" for name, count in s.opaque.items())
        return (
            f"its attention ran in kernels that cannot be looked into ({kernels}); switch to PyTorch's own: "
            "model.set_attn_implementation('sdpa') in transformers, model.set_attention_backend('native') in diffusers"
        )
    if s.other_thread:
        return (
            "it ran in another thread, and only the thread of the capture block is watched; call it in the block's "
            "own thread (without DataParallel)"
        )
    if s.other_task:
        return (
            "it ran in another asyncio task, and only the task of the capture block is watched, with those that it "
            "starts; call it in the block's own task"
        )
    if s.cuda_graph:
        return "it ran while a CUDA graph was being recorded; call the model itself, without the graph"
    if s.outside:
        return (
            f"{s.outside} attention calls were made by modules outside of it; pass the module that holds them, "
            "the one that you call"
        )
    if not s.calls:
        return "it was not called inside the block; call it there: with tr.capture(model) as trace: model(**inputs)"
    if s.scripted:
        return "it is TorchScript, which hides its operations; load the original Python module"
    if not s.functions:
        return "it ran, but no PyTorch function was seen: a CUDA graph or another runtime was replayed; call it eagerly"
    return (
        "it ran, but it has no softmax attention that can be seen (no scaled_dot_product_attention, no softmax over "
        "the last dimension of a product of queries and keys); linear attention and compiled extensions have none"
    )
