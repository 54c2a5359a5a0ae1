"""The recipe of the bundled network that reads text: cut exactly, packed closely, end to end on a tiny network."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

import tokenrank as tr
from tokenrank.models.packed import Packed, deflated
from training.text.compare import distances
from training.text.make import make
from training.text.network import cut_network
from training.text.pack import Steps, packed
from training.text.quantise import quantise
from training.text.sentences import glosses, read_corpus, sentences
from training.text.vocabulary import SPECIAL, cut_tokenizer, frequent, piece_counts

SENTENCE = "the cat sat on a mat because it was tired and dog ran over old bridge river engineers found deep cracks"
WORDS = SENTENCE.split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIGNS = [*LETTERS, *(f"##{letter}" for letter in LETTERS), *".,!?“”漢"]
PIECES = [*SPECIAL, *SIGNS, *(word for word in WORDS if len(word) > 1)]


def tokenizer(post: str = "template") -> Tokenizer:
    """BERT's own kind, of few pieces."""
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = (
        processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        if post == "template"
        else processors.BertProcessing(ends[1], ends[0])
    )
    made.add_special_tokens(list(SPECIAL))
    return made


def bert(layers: int = 3, seed: int = 0) -> BertModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(PIECES), hidden_size=64, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=64, initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    return BertModel(config).eval()


def texts(count: int, seed: int = 0) -> list[str]:
    chosen = random.Random(seed)
    lengths = [chosen.randint(5, 14) for _ in range(count)]
    return [" ".join(chosen.choices(WORDS, k=length)) + f" {chosen.choice(LETTERS)}." for length in lengths]


# ---------------------------------------------------------------------------------------- vocabulary


def test_the_frequent_pieces_stay() -> None:
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    counts = piece_counts(tokenizer(), ["the cat the cat the bridge"] * 3 + ["cracks"])
    kept = frequent(vocabulary, counts, 5 + 52 + 6 + 2)
    assert [PIECES[i] for i in kept[:5]] == list(SPECIAL)
    assert {PIECES[i] for i in kept[-2:]} == {"the", "cat"}
    assert "漢" not in {PIECES[i] for i in kept}  # a letter of another script that no text had
    for size in (10, len(PIECES) + 1):
        with pytest.raises(ValueError, match="expected 63 to"):
            frequent(vocabulary, counts, size)


@pytest.mark.parametrize("post", ["template", "bert"])
def test_a_cut_tokenizer_falls_back_on_shorter_pieces(post: str) -> None:
    whole = tokenizer(post)
    told = json.loads(whole.to_str())
    kept = frequent(told["model"]["vocab"], piece_counts(whole, ["the cat sat"]), 66)
    cut = Tokenizer.from_str(json.dumps(cut_tokenizer(told, kept)))
    assert cut.get_vocab_size() == 66
    text = "The “cat” sat, tired!"
    assert " ".join(cut.encode(text).tokens) == "[CLS] the “ cat ” sat , t ##i ##r ##e ##d ! [SEP]"
    same = "the cat sat on a mat" if "mat" in cut.get_vocab() else "the cat sat"
    assert [kept[i] for i in cut.encode(same).ids] == whole.encode(same).ids
    assert cut.encode("漢").tokens == ["[CLS]", "[UNK]", "[SEP]"]


# ------------------------------------------------------------------------------------------- network


@given(st.integers(0, 20))
def test_the_cut_network_attends_as_the_whole_one(seed: int) -> None:
    whole = bert(seed=seed)
    chosen = random.Random(seed)
    kept = chosen.sample(range(len(PIECES)), 40)
    small = cut_network(whole, kept)
    small.set_attn_implementation("eager")
    ids = torch.tensor([[chosen.randrange(40) for _ in range(9)]])
    with torch.no_grad():
        before = whole(torch.as_tensor(kept)[ids], output_attentions=True).attentions
        after = small(ids, output_attentions=True)
    assert len(after.attentions) == 3
    assert all(torch.equal(a, b) for a, b in zip(before, after.attentions, strict=True))
    assert not after.last_hidden_state.any()


def test_capture_sees_the_last_layer() -> None:
    small = cut_network(bert(), list(range(len(PIECES))))
    ids = torch.arange(5, 15)[None]
    with tr.capture(small) as trace, torch.no_grad():
        small(ids)
    small.set_attn_implementation("eager")
    with torch.no_grad():
        expected = small(ids, output_attentions=True).attentions[-1]
    assert len(trace.names) == 3
    torch.testing.assert_close(trace[-1].to_dense().float(), expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------- quantise


@given(st.floats(0.01, 2), st.integers(0, 99), st.floats(0.001, 100), st.floats(1, 1000))
def test_no_weight_moves_by_more_than_half_a_step(share: float, seed: int, size: float, outlier: float) -> None:
    torch.manual_seed(seed)
    weights = size * torch.randn(4, 64) * torch.rand(4, 1)
    weights[0, 0] *= outlier
    value = quantise(weights, share)
    steps = torch.from_numpy(value.steps).double()[:, None]
    moved = (weights.double() - value.values().double()).abs()
    assert bool((moved <= steps / 2 * (1 + 1e-6)).all())
    sizes = weights.double().square().mean(1, keepdim=True).sqrt()
    coarsest = torch.maximum(share * sizes, weights.double().abs().amax(1, keepdim=True) / 127.4)
    torch.testing.assert_close(steps, coarsest.clamp_min(2**-14), rtol=1e-3, atol=0)


def test_whole_steps_are_kept() -> None:
    codes = np.random.default_rng(0).integers(-3, 4, (3, 64)).astype(np.int8)
    value = Packed(codes, np.array([0.5, 0.25, 2], np.float16))
    sizes = value.values().square().mean(1).sqrt()
    for row, (step, size) in enumerate(zip(value.steps, sizes, strict=True)):
        again = quantise(value.values()[row : row + 1], float(step) / float(size))
        np.testing.assert_array_equal(again.codes[0], codes[row])


def test_a_row_of_zeros_stays_one() -> None:
    assert not quantise(torch.zeros(2, 32), 0.25).values().any()


def test_bits_are_what_theory_says() -> None:
    """Of a Gaussian: entropy log2(σ √(2πe) / step), and a little for whole bits."""
    torch.manual_seed(0)
    weights = torch.randn(300, 512)
    for share in (0.5, 0.25, 0.125):
        bits = 8 * len(deflated(quantise(weights, share).codes)) / weights.numel()
        ideal = math.log2(math.sqrt(2 * math.pi * math.e) / share)
        assert ideal < bits < ideal + 0.12


def test_smaller_steps_are_nearer() -> None:
    whole, made = bert(), tokenizer()
    whole.set_attn_implementation("eager")
    kept = list(range(len(PIECES)))
    found = []
    for share in (0.4, 0.1, 0.025):
        small = cut_network(whole, kept)
        small.set_attn_implementation("eager")
        packed(small, Steps(share, share, share))
        found.append(distances(whole, small, kept, made, texts(20, 1)))
    for layer in range(3):
        assert found[0][layer]["kl"] > 3 * found[1][layer]["kl"] > 9 * found[2][layer]["kl"] > 0
    same = distances(whole, cut_network(whole, kept), kept, made, texts(5))
    assert all(layer["kl"] == layer["total_variation"] == 0 for layer in same)


def test_distances_are_means_over_rows_and_heads() -> None:
    whole, other, made = bert(), bert(seed=1), tokenizer()
    told = texts(3)
    sums, rows = np.zeros(3), 0
    for text in told:  # one by one, in float64, without padding
        ids = torch.tensor([made.encode(text).ids])
        with torch.no_grad():
            a, b = (torch.cat(m(ids, output_attentions=True).attentions).double() for m in (whole, other))
        rows += a.shape[1] * a.shape[2]
        last = (a[2], b[2])
        sums += [
            float((last[0] * (last[0] / last[1]).log()).sum()),
            float((last[0] - last[1]).abs().sum() / 2),
            float(last[0][..., [0, -1]].sum()),
        ]
    found = distances(whole, other, list(range(len(PIECES))), made, told)[2]
    assert list(found.values()) == pytest.approx((sums / rows).tolist(), rel=1e-4)


# ---------------------------------------------------------------------------------------- end to end


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "dict").mkdir(parents=True)
    (folder / "one.txt").write_text(" ".join(texts(400)))
    (folder / "LICENSE.txt").write_text("This sentence is of a licence and is not counted.")
    lines = "".join(f"0000 n 01 | {text}\n" for text in texts(100, 1))
    (folder / "dict" / "data.noun").write_text("  1 This is | the licence.\n" + lines)
    return folder


def test_sentences_are_found_once(data: Path) -> None:
    corpus = read_corpus(data, 20)
    every = [*corpus.train, *corpus.held_out]
    assert len(every) == len(set(every)) > 350
    assert len(corpus.held_out) == 20
    assert not any("licence" in text for text in every)
    assert corpus == read_corpus(data, 20)
    assert sentences("Short. This one is long\nenough to be kept. " + "x" * 500) == [
        "This one is long enough to be kept."
    ]
    assert glosses("  1 a | b\n00 n | what it means \n") == ["what it means"]
    with pytest.raises(ValueError, match="expected 20000"):
        read_corpus(data)


def test_from_a_network_and_texts_to_a_folder_that_loads(data: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "bert", tmp_path / "out"
    bert().save_pretrained(source)
    tokenizer().save(str(source / "tokenizer.json"))
    figures: dict[str, Any] = make(source, data, out, 78, Steps(), 20, 10)
    assert figures == json.loads((out / "figures.json").read_text())
    assert {"LICENSE", "README.md", "config.json", "tokenizer.json", "packed.safetensors"} <= {
        path.name for path in out.iterdir()
    }
    card = (out / "README.md").read_text()
    assert f"| 2 | {figures['layers'][2]['kl']:.4f} |" in card
    assert "apache-2.0" in card
    model = tr.load(out)
    assert (model.kind, model.max_tokens) == ("text", 64)
    seen = tr.observe("The cat sat on the mat", model)
    assert len(seen.layers) == 3
    assert figures["pieces"] == model.module.config.vocab_size == 78
    assert " ".join(seen.chain().layout.tokens).replace(" ##", "") == "the cat sat on the mat"
    raw, known = Tokenizer.from_file(str(source / "tokenizer.json")), json.loads((out / "tokenizer.json").read_text())
    kept = [raw.token_to_id(piece) for piece in known["model"]["vocab"]]
    whole = BertModel.from_pretrained(source, attn_implementation="eager", add_pooling_layer=False).eval()
    model.module.set_attn_implementation("eager")
    again = distances(whole, model.module, kept, Tokenizer.from_file(str(out / "tokenizer.json")), texts(30, 2))
    for layer, told in zip(again, figures["layers"], strict=True):
        assert layer["kl"] == pytest.approx(told["kl"], rel=0.5)  # other texts, and vectors in half precision
