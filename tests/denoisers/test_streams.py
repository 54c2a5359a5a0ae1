"""Words outside of the prompt: what they attend to is exact, and the picture never sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.denoisers.blocks import block_chain, blocks_of
from tokenrank.denoisers.outside import ExtraWords, embed, encode_words
from tokenrank.denoisers.prompt import prompt_of
from tokenrank.denoisers.streams import _with_text, inputs_of, with_words
from tokenrank.errors import CaptureError, InputError, NotFoundError
from tokenrank.recording.acts import Act, acting
from tokenrank.trace.capture import root_module

pytest.importorskip("diffusers")

from tests.diffusion import families, text_encoders

PROMPT = "a school bus"
EXTRA = ["german shepherd", "sofa"]
NAMES = list(families.BUILD)
CROSS = [name for name in NAMES if name not in families.JOINT]


def recorded(
    pipe: Any, name: str, prompt: str = PROMPT, **more: Any
) -> tuple[tr.Trace, Any, dict[int, dict[str, Any]]]:
    denoiser = root_module(pipe)
    with inputs_of(denoiser) as calls, tr.capture(pipe) as trace:
        families.run(pipe, name, prompt, **more)
    return trace, denoiser, calls


def sample(out: Any) -> Tensor:
    first = out[0] if isinstance(out, tuple) else out.sample
    return torch.stack(first) if isinstance(first, list) else first


def joint(trace: tr.Trace) -> list[Any]:
    return [
        r for r in trace.records if r.is_square and isinstance(r.layout, tr.TokenLayout)
        and {"text", "image"} <= set(r.layout.spans)
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_picture_is_bit_identical(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    pipe = families.pipeline(name, tmp_path).to(dtype)
    trace, denoiser, calls = recorded(pipe, name)
    words = encode_words(pipe, EXTRA, length=_length(pipe, name, trace))
    with torch.no_grad():
        before = sample(denoiser(**calls[0]))
        wide = with_words(trace, denoiser, calls, words)
        after = sample(denoiser(**calls[0]))
    assert torch.equal(before, after)
    changed = 0
    for old, new in zip(trace.records, wide.records, strict=True):
        count, keys = old.shape[-2:]
        assert torch.equal(new.q[..., :count, :], old.q)
        assert torch.equal(new.k[..., :keys, :], old.k)
        changed += new.shape[-1] > keys
    assert changed == (len(joint(trace)) if name in families.JOINT else sum("attn2" in r.name for r in trace.records))
    assert changed > 0
    assert not denoiser._forward_hooks
    assert not denoiser._forward_pre_hooks


def _length(pipe: Any, name: str, trace: tr.Trace) -> int | None:
    return families.ALONE[name].get("max_sequence_length", 24) + (16 if name == "Stable Diffusion 3" else 0)


def prompt_as_words(pipe: Any, calls: Mapping[int, Mapping[str, Any]]) -> ExtraWords:
    """The text of a call itself, as if it were words outside of the prompt."""
    text = calls[0].get("encoder_hidden_states")
    text = calls[0]["cap_feats"][0] if text is None else text[0]
    count = len(text)
    return ExtraWords(("",) * count, {"all": tuple(range(count))}, text, torch.arange(count))


@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_as_words_outside_of_it_is_the_prompt(name: str, tmp_path: Path) -> None:
    """A stream of the prompt's own embeddings has the queries and keys of the prompt, in every layer."""
    pipe = families.pipeline(name, tmp_path)
    prompt = "a " * 20 if name == "Z-Image" else PROMPT  # whose text fills 32 tokens: padding is no part of the words
    trace, denoiser, calls = recorded(pipe, name, prompt)
    if name == "Z-Image":
        assert len(calls[0]["cap_feats"][0]) == 32
    words = prompt_as_words(pipe, calls)
    wide = with_words(trace, denoiser, calls, words)
    checked = 0
    for old, new in zip(trace.records, wide.records, strict=True):
        if new.shape == old.shape:
            continue
        layout = old.layout if old.is_square else old.sides[1]
        text = layout.indices("text")
        count = old.shape[-1]
        torch.testing.assert_close(new.k[..., count:, :], old.k[..., text, :], rtol=1e-4, atol=1e-4)
        if old.is_square:
            torch.testing.assert_close(new.q[..., count:, :], old.q[..., text, :], rtol=1e-4, atol=1e-4)
        checked += 1
    assert checked >= 2


class Beside(Act):
    """One pass, with the words behind the prompt in its own text: no one sees them but themselves and the picture."""

    def __init__(self, prompt: int, extra: int, sees: Tensor, text_first: bool) -> None:
        self.prompt, self.extra, self.sees, self.text_first = prompt, extra, sees, text_first

    def fused(self, caller: Any, call: Any) -> Any:
        total = call.key.shape[-2]
        if total == call.query.shape[-2] and total > self.prompt + self.extra:
            before = 0 if self.text_first else total - self.prompt - self.extra
            own = torch.arange(before + self.prompt, before + self.prompt + self.extra)
            text = torch.arange(before, before + self.prompt)
            hidden = torch.zeros(total, total, dtype=torch.bool)
            hidden[:, own] = True
            hidden[own[:, None], own] = ~self.sees
            hidden[own[:, None], text] = True
            return call.hiding(hidden)
        return call


def far(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in standard deviations of what is expected."""
    return float(((found - expected).abs().max() / expected.std()).detach())


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("name", ["FLUX.1", "FLUX.2", "FLUX.2 Klein", "Stable Diffusion 3"])
def test_it_is_what_one_masked_pass_computes(name: str, together: bool, tmp_path: Path) -> None:
    """An oracle of another kind: prompt and words in one text, and masks. (In the others places of words are fixed.)"""
    pipe = families.told_apart(families.pipeline(name, tmp_path))
    trace, denoiser, calls = recorded(pipe, name)
    words = encode_words(pipe, EXTRA, length=_length(pipe, name, trace))
    wide = with_words(trace, denoiser, calls, words, together)
    given, text = dict(calls[0]), calls[0]["encoder_hidden_states"]
    given["encoder_hidden_states"] = torch.cat([text, words.embeddings[None]], 1)
    if "txt_ids" in given:
        ids = given["txt_ids"]
        given["txt_ids"] = torch.cat([ids, ids[..., words.positions, :]], -2)
    prompt, extra = text.shape[1], len(words.tokens)
    beside = Beside(prompt, extra, words.sees(together), "FLUX" in name)
    with torch.no_grad(), acting(denoiser, beside), tr.capture(denoiser) as one:
        out = sample(denoiser(**given))
    assert far(out, sample(denoiser(**calls[0]))) < 1e-3
    for old, new, ours in zip(trace.records, one.records, wide.records, strict=True):
        count = old.shape[-1]
        before = old.layout.indices("text")[0] + prompt
        assert far(ours.q[..., count:, :], new.q[..., before : before + extra, :]) < 1e-3
        assert far(ours.k[..., count:, :], new.k[..., before : before + extra, :]) < 1e-3
    # that of the words in place of the prompt, where the picture has seen them and not the prompt, is far from it
    given = _with_text(denoiser, calls[0], words)
    with torch.no_grad(), tr.capture(denoiser) as instead:
        denoiser(**given)
    apart = max(
        far(other.q[..., other.layout.indices("text"), :][..., :extra, :], ours.q[..., -extra:, :])
        for other, ours in zip(instead.records, wide.records, strict=True)
    )
    assert apart > 0.1


@pytest.mark.parametrize("name", families.JOINT)
def test_rows_and_columns_of_the_words(name: str, tmp_path: Path) -> None:
    pipe = families.pipeline(name, tmp_path)
    trace, denoiser, calls = recorded(pipe, name)
    words = encode_words(pipe, EXTRA, length=_length(pipe, name, trace))
    wide = with_words(trace, denoiser, calls, words)
    for layer, block in blocks_of(wide, 0).items():
        chain = block_chain(wide, 0, block)
        layout, dense = chain.layout, chain.to_dense().double()
        assert layout is not None
        own = layout.indices("words")
        assert [layout.tokens[i] for i in own] == list(words.tokens)  # type: ignore[index]
        old = block_chain(trace, 0, blocks_of(trace, 0)[layer]).to_dense().double()
        picture = layout.indices("image")
        text = [i for span in layout.spans if span.startswith("text") for i in layout.indices(span)]
        seen = range(old.shape[-1])
        assert float(dense[:, text][:, :, own].abs().max()) == 0  # the prompt does not see them
        assert float(dense[:, own][:, :, text].abs().max()) == 0  # nor they the prompt
        torch.testing.assert_close(dense[:, text][:, :, seen], old[:, text], rtol=1e-5, atol=1e-7)
        rows = dense[:, picture]
        assert float(rows[:, :, own].min()) > 0
        kept = rows[:, :, seen]
        torch.testing.assert_close(kept / kept.sum(-1, keepdim=True), old[:, picture], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(dense.sum(-1), torch.ones_like(dense[..., 0]))


@pytest.mark.parametrize("name", CROSS)
def test_columns_of_the_words_in_cross_attention(name: str, tmp_path: Path) -> None:
    pipe = families.pipeline(name, tmp_path)
    trace, denoiser, calls = recorded(pipe, name)
    words = encode_words(pipe, EXTRA, length=_length(pipe, name, trace))
    wide = with_words(trace, denoiser, calls, words)
    module = denoiser.get_submodule(next(r.name for r in trace.records if "attn2" in r.name))
    given = words.embeddings if name != "PixArt" else denoiser.caption_projection(words.embeddings)
    first = next(r for r in wide.records if r.name.endswith("attn2"))
    keys = module.to_k(given).unflatten(-1, (first.k.shape[1], -1)).transpose(0, 1)
    torch.testing.assert_close(first.k[0, :, -len(words.tokens) :], keys)
    for layer, block in blocks_of(wide, 0).items():
        chain = block_chain(wide, 0, block)
        assert chain.layout is not None
        own = chain.layout.indices("words")
        assert [chain.layout.tokens[i] for i in own] == list(words.tokens)  # type: ignore[index]
        dense, old = chain.to_dense().double()[0], trace.cross(block.cross).weights.flatten(0, -3).double()
        patches = block.count
        assert float(dense[:patches, own].min()) > 0
        new = wide.cross(block.cross).weights.flatten(0, -3).double()
        kept = new[..., : old.shape[-1]]
        torch.testing.assert_close(kept / kept.sum(-1, keepdim=True), old, rtol=1e-4, atol=1e-7)
        assert block.cross is not None
        assert layer in blocks_of(trace, 0)


@pytest.mark.parametrize("name", ["FLUX.1", "Z-Image", "Qwen-Image", "Stable Diffusion 3"])
def test_streams_apart_are_the_same_whichever_others_there_are(name: str, tmp_path: Path) -> None:
    pipe = families.pipeline(name, tmp_path)
    trace, denoiser, calls = recorded(pipe, name)
    length = _length(pipe, name, trace)
    both, one = (encode_words(pipe, asked, length=length) for asked in (EXTRA, EXTRA[:1]))
    apart = with_words(trace, denoiser, calls, both, together=False)
    alone = with_words(trace, denoiser, calls, one, together=False)
    joined = with_words(trace, denoiser, calls, both)
    differs = 0.0
    for old, first, second, third in zip(trace.records, apart.records, alone.records, joined.records, strict=True):
        if first.shape == old.shape:
            continue
        own = [old.shape[-1] + i for i in both.places[EXTRA[0]]]
        torch.testing.assert_close(first.q[..., own, :], second.q[..., own, :], rtol=1e-4, atol=1e-5)
        differs = max(differs, float((first.q[..., own, :] - third.q[..., own, :]).abs().max()))
    assert differs > 1e-5


def test_both_branches_of_guidance_get_them(tmp_path: Path) -> None:
    pipe = families.pipeline("Stable Diffusion 3", tmp_path)
    trace, denoiser, calls = recorded(pipe, "Stable Diffusion 3", guidance_scale=4.0, num_inference_steps=2)
    words = encode_words(pipe, EXTRA, length=40)
    wide = with_words(trace, denoiser, calls, words)
    branches: list[tr.Trace] = [wide.select(branch=branch) for branch in ("conditional", "unconditional")]
    one, other = (block_chain(part, 1, blocks_of(part, 1)["transformer_blocks.0.attn"]) for part in branches)
    assert one.num_tokens == trace.records[0].shape[-1] + len(words.tokens)
    assert float((one.to_dense() - other.to_dense()).abs().max()) > 1e-6
    with pytest.raises(CaptureError, match="record all heads, and select branch or sample later"):
        with_words(trace.select(branch="conditional"), denoiser, calls, words)
    with pytest.raises(InputError, match=r"arguments of the forward calls \[1\] are missing"):
        with_words(trace, denoiser, {0: calls[0]}, words)


def test_attention_that_is_written_by_hand_is_refused(tmp_path: Path) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    pipe = families.pipeline("Stable Diffusion 1.5", tmp_path)
    pipe.unet.set_attn_processor(AttnProcessor())
    trace, denoiser, calls = recorded(pipe, "Stable Diffusion 1.5")
    words = encode_words(pipe, EXTRA)
    with pytest.raises(CaptureError, match=r"4 of 4 attentions to the text, .*attn2', are written by hand"):
        with_words(trace, denoiser, calls, words)


def test_its_passes_are_in_no_trace_and_leave_nothing(tmp_path: Path) -> None:
    pipe = families.pipeline("FLUX.1", tmp_path)
    trace, denoiser, calls = recorded(pipe, "FLUX.1")
    words = encode_words(pipe, EXTRA, length=24)
    ran = []
    with tr.capture(denoiser) as outer, torch.no_grad():
        denoiser(**calls[0])
        with_words(trace, denoiser, calls, words)
    assert len(outer.records) == len(trace.records)

    def stop(module: Any, args: Any) -> None:
        ran.append(1)
        if len(ran) == 2:  # the second of its passes
            raise KeyError("stop")

    hook = denoiser.single_transformer_blocks[0].register_forward_pre_hook(stop)
    with pytest.raises(KeyError, match="stop"):
        with_words(trace, denoiser, calls, words)
    hook.remove()
    assert torch.overrides._get_current_function_mode_stack() == []
    assert not denoiser._forward_hooks
    assert not denoiser._forward_pre_hooks
    again = with_words(trace, denoiser, calls, words)
    assert again.records[0].shape[-1] == trace.records[0].shape[-1] + len(words.tokens)


def test_what_has_changed_since_is_noticed(tmp_path: Path) -> None:
    pipe = families.pipeline("FLUX.1", tmp_path)
    trace, denoiser, calls = recorded(pipe, "FLUX.1")
    words = encode_words(pipe, EXTRA, length=24)
    moved = {0: calls[0] | {"hidden_states": calls[0]["hidden_states"] + 1}}
    with pytest.raises(CaptureError, match="no longer computes what the trace holds"):
        with_words(trace, denoiser, moved, words)
    with pytest.raises(InputError, match="was given no text"):
        with_words(trace, denoiser, {0: {k: v for k, v in calls[0].items() if k != "encoder_hidden_states"}}, words)


@pytest.mark.parametrize("name", NAMES)
def test_words_are_encoded_as_in_their_sentence(name: str, tmp_path: Path) -> None:
    pipe = families.pipeline(name, tmp_path)
    length = _length(pipe, name, tr.Trace([]))
    words = encode_words(pipe, EXTRA, sentence="a {} and a", length=length)
    assert sorted(i for places in words.places.values() for i in places) == list(range(len(words.tokens)))
    for word in EXTRA:
        text = f"a {word} and a"
        whole = embed(pipe, text, length)
        tokens = prompt_of(pipe, text, len(whole))
        own = list(words.places[word])
        assert torch.equal(words.embeddings[own], whole[list(tokens.word(word))])
        assert words.positions[own].tolist() == list(tokens.word(word))
    again = encode_words(pipe, ["a"], sentence="a sofa and {}", length=length)  # the last of two
    assert (
        again.positions[0] == prompt_of(pipe, "a sofa and a", len(embed(pipe, "a sofa and a", length))).word("a", 1)[0]
    )


def test_words_that_cannot_be_encoded(tmp_path: Path) -> None:
    pipe = families.pipeline("FLUX.1", tmp_path)
    for wrong in ([], ["cat", "cat"], "cat"):
        with pytest.raises(InputError, match="expected several words, each once"):
            encode_words(pipe, wrong)
    with pytest.raises(InputError, match=r"expected one .. where the word goes"):
        encode_words(pipe, ["cat"], sentence="a cat")
    with pytest.raises(NotFoundError, match="cut off"):
        encode_words(pipe, ["caterpillar " * 20])
    pipe.tokenizer_2 = text_encoders.whole_words()
    with pytest.raises(NotFoundError, match=r"does not know 'zebra': it makes '<unk>.*' of it"):
        encode_words(pipe, ["zebra"], length=12)
    pipe.text_encoder = pipe.text_encoder_2 = None
    with pytest.raises(InputError, match="has no text encoder here"):
        encode_words(pipe, ["cat"])
