"""Caches of real, tiny models of TransformerLens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tiny import save_gpt2
from tokenrank.errors import InputError
from tokenrank.layout import TokenLayout
from tokenrank.trace import from_cache

lens = pytest.importorskip("transformer_lens")

SIZES = {"n_layers": 2, "d_model": 16, "n_ctx": 12, "d_head": 4, "n_heads": 4, "d_vocab": 11, "d_mlp": 16}
TOKENS = torch.tensor([[1, 5, 3, 2, 9, 4], [7, 7, 1, 0, 2, 3]])


def cached(positions: str = "standard", **changes: Any) -> Any:
    """A cache of the class that this version of TransformerLens builds models with."""
    settings = {**SIZES, "act_fn": "gelu", "positional_embedding_type": positions, "seed": 0, **changes}
    try:
        model = lens.HookedTransformer(lens.HookedTransformerConfig(**settings))
    except (AttributeError, ImportError):
        model = lens.TransformerBridge.boot_native(settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)  # attention that is far from even
        return model.run_with_cache(TOKENS)[1]


def patterns(cache: Any) -> list[torch.Tensor]:
    return [cache[f"blocks.{layer}.attn.hook_pattern"] for layer in range(2)]


def without(cache: Any, *parts: str) -> Any:
    cache.cache_dict = {name: t for name, t in cache.cache_dict.items() if not name.endswith(parts)}
    return cache


@pytest.mark.parametrize(
    "changes",
    [{}, {"attention_dir": "bidirectional"}, {"n_key_value_heads": 2}, {"attn_scale": 3.0}, {"use_attn_scale": False}],
)
def test_queries_and_keys_give_back_the_pattern(changes):
    cache = cached(**changes)
    trace = from_cache(cache, layout=TokenLayout({"text": 6}))
    assert trace.names == ["blocks.0.attn", "blocks.1.attn"]
    for record, pattern in zip(trace.records, patterns(cache), strict=True):
        torch.testing.assert_close(record.to_dense(), pattern, atol=1e-5, rtol=0)
        torch.testing.assert_close(trace[record.name].to_dense(), pattern, atol=1e-5, rtol=0)
    if changes.keys() <= {"attention_dir", "n_key_value_heads"}:
        assert [r.kind for r in trace.records] == ["eager", "eager"]
        assert {r.is_causal for r in trace.records} == {"attention_dir" not in changes}
    assert trace[0].layout == TokenLayout({"text": 6})


def test_rotated_queries_and_keys_are_taken_where_they_are_cached(tmp_path):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20, num_key_value_heads=2, initializer_range=0.5, **sizes)).eval()
    model.save_pretrained(tmp_path / "llama")
    tokenizer = AutoTokenizer.from_pretrained(save_gpt2(tmp_path / "words"))
    bridge = lens.model_bridge.TransformerBridge.boot_transformers(
        str(tmp_path / "llama"), hf_model=model, tokenizer=tokenizer
    )
    with torch.no_grad():
        cache = bridge.run_with_cache(TOKENS)[1]
    trace = from_cache(cache)
    assert [r.kind for r in trace.records] == ["eager", "eager"]
    assert trace.records[0].k.shape == (2, 2, 6, 4)
    for record, pattern in zip(trace.records, patterns(cache), strict=True):
        torch.testing.assert_close(record.to_dense(), pattern, atol=1e-5, rtol=0)


def test_the_pattern_is_taken_where_queries_and_keys_do_not_give_it_back():
    cache = cached(attn_scores_soft_cap=1.0)
    trace = from_cache(cache)
    assert [r.kind for r in trace.records] == ["weights", "weights"]
    assert all(torch.equal(r.weights, p) for r, p in zip(trace.records, patterns(cache), strict=True))
    changed = cached()
    changed.cache_dict["blocks.1.attn.hook_pattern"] = torch.full((2, 4, 6, 6), 1 / 6)
    assert [r.kind for r in from_cache(changed).records] == ["eager", "weights"]


def test_one_half_of_the_hooks_is_enough():
    cache = cached()
    whole = [r.to_dense() for r in from_cache(cache).records]
    for parts in (("hook_q", "hook_k"), ("hook_pattern",), ("hook_pattern", "hook_attn_scores")):
        for record, dense in zip(from_cache(without(cached(), *parts)).records, whole, strict=True):
            torch.testing.assert_close(record.to_dense(), dense, atol=1e-5, rtol=0)


def test_a_missing_batch_dimension_stays_missing():
    cache = cached()
    plain = {name: tensor[0] for name, tensor in cache.items() if "attn.hook" in name}
    trace = from_cache(plain)
    assert trace.records[0].shape == (4, 6, 6)
    assert trace.records[0].kind == "eager"
    torch.testing.assert_close(trace[0].to_dense(), patterns(cache)[0][0], atol=1e-5, rtol=0)


def test_nothing_is_guessed_without_a_pattern():
    for changes, reason in (
        ({"positions": "rotary", "rotary_dim": 4}, "rotated"),
        ({"attn_scores_soft_cap": 1.0}, "soft-capped"),
    ):
        cache = without(cached(**changes), "hook_pattern", "hook_rot_q", "hook_rot_k")
        with pytest.raises(InputError, match=f"{reason}.*cache hook_pattern too"):
            from_cache(cache)
    plain = {name: tensor for name, tensor in without(cached(), "hook_pattern").items() if "attn.hook" in name}
    with pytest.raises(InputError, match="nothing says whether it is causal"):
        from_cache(plain)


def test_caches_without_attention_are_refused():
    with pytest.raises(InputError, match="run_with_cache"):
        from_cache({})
    with pytest.raises(InputError, match="only hook_q"):
        from_cache({"blocks.0.attn.hook_q": torch.ones(1, 3, 2, 4)})
    with pytest.raises(InputError, match="expected an ActivationCache"):
        from_cache(3)
    with pytest.raises(InputError, match="expected a tensor or an array"):
        from_cache({"blocks.0.attn.hook_pattern": "a"})
    with pytest.raises(InputError, match="logits"):
        from_cache({"blocks.0.attn.hook_pattern": torch.randn(1, 2, 3, 3)})
