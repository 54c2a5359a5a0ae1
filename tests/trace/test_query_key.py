"""Queries and keys from somebody's own hooks."""

from __future__ import annotations

import pytest
import torch

import tokenrank as tr
from tests.tiny import save_bert
from tokenrank.errors import InputError
from tokenrank.layout import TokenLayout
from tokenrank.trace import from_attentions, from_query_key

Q, K = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)


def reference(q, k, scale, mask=None):
    logits = scale * (q.double() @ k.double().repeat_interleave(q.shape[-3] // k.shape[-3], -3).mT)
    return (logits if mask is None else logits.masked_fill(~mask, -torch.inf)).softmax(-1).float()


def test_pairs_and_mappings_give_the_same_chain():
    trace = from_query_key({"a.b": (Q, K), "c": {"q": Q, "k": K.numpy(), "scale": 8**-0.5}})
    for name in ("a.b", "c"):
        torch.testing.assert_close(trace[name].to_dense(), reference(Q, K, 8**-0.5))
    assert trace.records[0].q.data_ptr() == Q.data_ptr()
    assert trace.names == ["a.b", "c"]


def test_scale_mask_and_causality_are_used():
    lower = torch.ones(5, 5, dtype=torch.bool).tril()
    seen = torch.tensor([True, True, True, True, False])
    trace = from_query_key(
        [{"q": Q, "k": K, "scale": 0.3, "is_causal": True}, {"q": Q, "k": K, "mask": seen}],
        names=["causal", "padded"],
        layout=TokenLayout({"text": 5}),
    )
    torch.testing.assert_close(trace["causal"].to_dense(), reference(Q, K, 0.3, lower))
    torch.testing.assert_close(trace["padded"].to_dense(), reference(Q, K, 8**-0.5, seen))
    assert trace["causal"].is_causal
    assert trace[0].layout == TokenLayout({"text": 5})
    assert from_query_key([(Q, K)]).names == ["attention.0"]


def test_sinks_take_their_share():
    record = from_query_key([{"q": Q, "k": K, "sinks": torch.zeros(4)}]).records[0]
    assert (record.to_dense().sum(-1) < 1).all()


def test_cross_attention_is_kept_as_a_record():
    assert from_query_key([(Q, torch.randn(2, 4, 7, 8))]).records[0].shape == (2, 4, 5, 7)


def refused(entry, message):
    with pytest.raises(InputError, match=message):
        from_query_key({"layer\x1b": entry})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ((Q,), "expected a pair"),
        (Q, "expected a pair"),
        ((Q, None), "None"),
        ((Q, K[..., :4]), "same d"),
        ((Q.transpose(1, 2), K.transpose(1, 2)[:, :4]), "multiple of the key heads; heads come before tokens"),
        ((Q[0], K), "same dimensions"),
        ((Q.long(), K), "int64"),
        ((Q * torch.inf, K), "finite"),
        ((Q[..., :0], K[..., :0]), "not empty"),
        ({"q": Q}, "no k"),
        ({"q": Q, "k": K, "masks": None}, "unknown entry 'masks'.*'mask'"),
        ({"q": Q, "k": K, "scale": -1.0}, "positive"),
        ({"q": Q, "k": K, "scale": float("nan")}, "positive"),
        ({"q": Q, "k": K, "scale": torch.ones(2)}, "one number"),
        ({"q": Q, "k": K, "is_causal": 1}, "True or False"),
        ({"q": Q, "k": K, "mask": torch.ones(5)[:, None, None, None, None]}, "broadcasts"),
        ({"q": Q, "k": K, "mask": torch.ones(5, 4)}, "broadcasts"),
        ({"q": Q, "k": K, "mask": torch.ones(5, 5, dtype=torch.int64)}, r"mask\.bool\(\)"),
        ({"q": Q, "k": K, "sinks": torch.ones(3)}, "for each of the heads"),
        ({"q": Q, "k": K, "mask": torch.ones(5, 5, dtype=torch.bool, device="meta")}, "meta"),
    ],
)
def test_what_does_not_fit_is_refused(entry, message):
    refused(entry, message)


def test_names_in_errors_are_printable():
    with pytest.raises(InputError) as caught:
        from_query_key({"\x1b[2J": (Q,)})
    assert str(caught.value).isprintable()


def test_empty_and_misnamed_entries():
    with pytest.raises(InputError, match="empty dict"):
        from_query_key({})
    with pytest.raises(InputError, match="2 names for 1 entries"):
        from_query_key([(Q, K)], names=["a", "b"])
    with pytest.raises(InputError, match="names beside a mapping"):
        from_query_key({"a": (Q, K)}, names=["a"])
    with pytest.raises(InputError, match="expected a mapping"):
        from_query_key(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected strings"):
        from_query_key({3: (Q, K)})  # type: ignore[dict-item]


def test_what_nnsight_saves_is_what_capture_sees(tmp_path):
    nnsight = pytest.importorskip("nnsight")
    from transformers import BertModel

    model = BertModel.from_pretrained(save_bert(tmp_path), attn_implementation="eager").eval()
    ids = torch.randint(5, 14, (1, 6))
    with torch.no_grad(), tr.capture(model) as captured:
        model(ids)
    wrapped = nnsight.NNsight(model)
    attention = wrapped.encoder.layer[1].attention.self
    with torch.no_grad(), wrapped.trace(ids):
        q = attention.query.output.save()
        k = attention.key.output.save()
        weights = attention.output[1].save()
    heads = [t.unflatten(-1, (2, -1)).transpose(1, 2) for t in (q, k)]
    seen = captured.records[1].to_dense()
    torch.testing.assert_close(from_query_key({"layer.1": heads})["layer.1"].to_dense(), seen)
    torch.testing.assert_close(from_attentions({"layer.1": weights})["layer.1"].to_dense(), seen)
