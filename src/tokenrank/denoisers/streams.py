"""Words outside of the prompt: a text stream beside the picture's, which the picture does not see.

Tokens of a denoiser meet in attention alone. So a second forward call is given the words in place of the prompt, and in
every attention its picture is the one of the first call: keys and values of the picture's tokens are replaced by those.
The words attend to that picture and to themselves, layer by layer, as a prompt would. The first call, whose output is
the picture's, is not touched, and what the second makes of the picture is thrown away.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CaptureError, InputError
from ..layout import TokenLayout
from ..recording import Act, AttentionRecord, Caller, FusedCall, acting, paused
from ..trace import Trace, capture
from .outside import ExtraWords, encode_words
from .widened import SPAN, Rows, Sequence, widened

__all__ = ["ExtraWords", "encode_words", "inputs_of", "values_of", "with_words"]

Key = tuple[str, int]
"""Name of an attention, and how many of its calls came before in the same forward call."""


def with_words(
    trace: Trace, denoiser: nn.Module, calls: Mapping[int, Mapping[str, Any]], words: ExtraWords, together: bool = True
) -> Trace:
    """The trace in which words outside of the prompt are tokens, too: a span "words" after all others.

    In joint attention rows of the words are what their stream attends to: the picture and themselves. Rows of the
    picture are softmaxes over all its keys and those of the words: what it would attend to if these were there, which
    they are not, so that the picture is the same. Rows of the prompt are those of the model. In cross-attention the
    words are more columns of that softmax. Everything else of the trace is as it was.

    It takes two more forward calls for each of the trace's, and the keys and values of one of them.

    Args:
        trace: of whole batches, before a branch or sample is selected.
        denoiser: that ran.
        calls: number of the forward call → its arguments by name; see ``inputs_of``.
        words: of ``encode_words``.
        together: whether words attend to each other, as in ConceptAttention (2502.04320); False for a stream apart for
            each word, so that its map is the same whichever others are asked for.

    Raises:
        CaptureError: attention of another kind than PyTorch's fused one, records of some heads or samples only, or a
            denoiser that no longer computes what the trace holds.
        InputError: a forward call whose arguments are missing, or that has no text; words that are there already.
    """
    records = trace.select().records
    if any(isinstance(side, TokenLayout) and SPAN in side.spans for r in records for side in (r.layout, r.sides[1])):
        raise InputError("words outside of the prompt are in this trace already; give all of them at once")
    missing = sorted({record.step for record in records} - set(calls))
    if missing:
        raise InputError(
            f"the arguments of the forward calls {missing} are missing, those of {sorted(calls)} are there"
        )
    sees = words.sees(together)
    rows = {step: _stream(denoiser, calls[step], words, sees).rows for step in dict.fromkeys(r.step for r in records)}
    seen: Counter[tuple[int, str]] = Counter()
    kept: list[AttentionRecord] = []
    for record in records:
        key = record.name, seen[record.step, record.name]
        seen[record.step, record.name] += 1
        kept.append(widened(record, rows[record.step][key], words, sees) if key in rows[record.step] else record)
    if all(one is other for one, other in zip(records, kept, strict=True)):
        raise CaptureError(f"no attention of {type(denoiser).__name__} in this trace is over the text of a prompt")
    return Trace(kept)


@contextmanager
def inputs_of(denoiser: nn.Module) -> Iterator[dict[int, dict[str, Any]]]:
    """A block in which the arguments of every forward call of a denoiser are kept, by its number and by name.

    Tensors are kept as they are, not copied: those of a picture of 1024 × 1024 pixels take 1 MB a call, and its text
    4 MB in all.
    """
    calls: dict[int, dict[str, Any]] = {}
    signature = inspect.signature(denoiser.forward)

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[len(calls)] = dict(signature.bind(*args, **kwargs).arguments)

    hook = denoiser.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def values_of(
    denoiser: nn.Module, given: Mapping[str, Any], words: ExtraWords | None = None, together: bool = True
) -> dict[str, Tensor]:
    """Values of every fused attention of a forward call, (B, H, N, d), by the name of its module (of its last call).

    Args:
        denoiser: that ran.
        given: the arguments of the forward call by name; see ``inputs_of``.
        words: outside of the prompt, whose values follow those of all other tokens, as in ``with_words``.
        together: as there.
    """
    if words is None:
        first = _First()
        with torch.no_grad(), paused(), acting(denoiser, first):
            denoiser(**given)
        return {name: call.value for (name, _), call in first.calls.items()}
    second = _stream(denoiser, given, words, words.sees(together))
    return {key[0]: second.values(key) for key in second.first}


def _stream(denoiser: nn.Module, given: Mapping[str, Any], words: ExtraWords, sees: Tensor) -> _Second:
    """The words in every attention that a prompt takes part in, beside the attention of the first call."""
    worded = _with_text(denoiser, given, words)
    with torch.no_grad(), paused():
        first = _First()
        with acting(denoiser, first), capture(denoiser, device="meta") as shapes:
            denoiser(**given)
        sequences = _sequences(shapes)
        _check_fused(sequences, first.calls)
        second = _Second(first.calls, sequences, sees)
        with acting(denoiser, second):
            denoiser(**worded)
    return second


def _check_fused(sequences: Mapping[Key, Sequence], calls: Mapping[Key, FusedCall]) -> None:
    """Raise where the text is in an attention whose keys and values cannot be replaced."""
    others = [name for name, place in sequences if (name, place) not in calls]
    if others:
        raise CaptureError(
            f"{len(others)} of {len(sequences)} attentions to the text, such as {others[0]!r}, are written by hand, "
            "expected PyTorch's scaled_dot_product_attention; take the processors of its class, such as "
            "unet.set_attn_processor(AttnProcessor2_0()), or set_attention_backend('native')"
        )


def _sequences(shapes: Trace) -> dict[Key, Sequence]:
    """Where the text stands in every attention of a forward call that has some."""
    seen: Counter[str] = Counter()
    found = {}
    for record in shapes.records:
        key = record.name, seen[record.name]
        seen[record.name] += 1
        layout = shapes.layout_of(record) if record.is_square and record.sides[1] is None else None
        sequence = Sequence.of(record, layout)
        if sequence is not None:
            found[key] = sequence
    return found


class _First(Act):
    """Keeps the keys and values that every fused attention was given, and leaves it alone."""

    def __init__(self) -> None:
        self.calls: dict[Key, FusedCall] = {}
        self._seen: Counter[str] = Counter()

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        self.calls[caller.name, self._seen[caller.name]] = replace(call, query=call.query[..., :0, :])
        self._seen[caller.name] += 1
        return call


class _Second(Act):
    """Gives the words the picture of the first call, and keeps their queries, keys and values.

    Attributes:
        first: attention of the first call.
        rows: of the words, filled while the model runs.
    """

    def __init__(self, first: Mapping[Key, FusedCall], sequences: Mapping[Key, Sequence], sees: Tensor) -> None:
        self.rows: dict[Key, Rows] = {}
        self.first, self._sequences, self._sees = first, sequences, sees
        self._seen: Counter[str] = Counter()

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        key = caller.name, self._seen[caller.name]
        self._seen[caller.name] += 1
        sequence = self._sequences.get(key)
        if sequence is None:
            return call  # the picture alone, which nobody asks for
        self.rows[key], changed = sequence.joined(call, self.first[key], self._sees)
        return changed

    def values(self, key: Key) -> Tensor:
        """Of all tokens of an attention, those of the words last where they are among them; see ``widened``."""
        own, rows = self.first[key].value, self.rows.get(key)
        if rows is None or (rows.kind == "joint" and rows.picture is None):
            return own
        return torch.cat([own, rows.value], -2)


def _with_text(denoiser: nn.Module, given: Mapping[str, Any], words: ExtraWords) -> dict[str, Any]:
    """The arguments of a forward call whose text is the words."""
    changed, count = dict(given), len(words.tokens)
    text, listed = given.get("encoder_hidden_states"), given.get("cap_feats")
    if isinstance(listed, list):
        changed["cap_feats"] = [words.embeddings.to(one) for one in listed]
        return changed
    if not isinstance(text, Tensor):
        raise InputError(
            f"{type(denoiser).__name__} was given no text (encoder_hidden_states or cap_feats) in this forward call, "
            f"only {list(given)}; words need one that attends to a prompt"
        )
    changed["encoder_hidden_states"] = words.embeddings.to(text).expand(text.shape[0], -1, -1)
    for name in ("encoder_hidden_states_mask", "encoder_attention_mask", "attention_mask"):
        if isinstance(given.get(name), Tensor):
            changed[name] = None  # the words have no padding
    if given.get("txt_seq_lens") is not None:
        changed["txt_seq_lens"] = [count] * text.shape[0]
    if isinstance(ids := given.get("txt_ids"), Tensor):
        changed["txt_ids"] = _ids(ids, words.positions)
    return changed


def _ids(ids: Tensor, positions: Tensor) -> Tensor:
    """Places of the words, (…, M, axes) → (…, T, axes): those that a prompt's tokens have there."""
    last = int(positions.max())
    if last >= ids.shape[-2]:
        raise InputError(
            f"a word is token {last} of the sentence that it was encoded in, but the prompt has {ids.shape[-2]}; "
            "encode it in a shorter sentence"
        )
    return ids.index_select(-2, positions.to(ids.device))
