"""What attention gives words and patches, on a tiny FLUX, against plain loops over its own queries, keys and values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokenrank.baselines.concepts import automatic_heads, concept_attention
from tokenrank.baselines.concepts.automatic import mixed, output_shares, rescaled
from tokenrank.baselines.concepts.by_outputs import compared, outputs
from tokenrank.denoisers.pipeline import denoiser_of
from tokenrank.errors import InputError

from .sources import COUNT, HEADS, PLACES, TEXT, WORDS, chains, observed, photograph, weights

SIZE = 5


def values(seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(HEADS, COUNT, SIZE))


def masses() -> torch.Tensor:
    made = torch.zeros(len(WORDS), COUNT, dtype=torch.float64)
    for row, word in enumerate(WORDS):
        made[row, PLACES[word]] = 1 / len(PLACES[word])
    return made


def given_by_loops(matrix: np.ndarray, held: np.ndarray) -> np.ndarray:
    """(N, heads · e)."""
    out = np.zeros((COUNT, HEADS * SIZE))
    for head in range(HEADS):
        for i in range(COUNT):
            for j in range(COUNT):
                out[i, head * SIZE : (head + 1) * SIZE] += matrix[head, i, j] * held[head, j]
    return out


def test_outputs_lie_head_by_head():
    found = outputs(torch.from_numpy(weights()), torch.from_numpy(values()))
    np.testing.assert_allclose(found, given_by_loops(weights(), values()), atol=1e-12)


def test_words_are_rivals_for_every_patch():
    out = given_by_loops(weights(), values())
    found = compared(torch.from_numpy(out), masses(), torch.arange(TEXT, COUNT)).numpy()
    for patch in range(TEXT, COUNT):
        dots = [float(np.mean(out[PLACES[word]], 0) @ out[patch]) for word in WORDS]
        shares = [math.exp(dot) / sum(map(math.exp, dots)) for dot in dots]
        np.testing.assert_allclose(found[:, patch - TEXT], shares, rtol=1e-10)


def test_heads_count_by_what_they_give_the_patches():
    matrix, held = weights(), values()
    energies = [
        sum(float((matrix[h, p] @ held[h]) @ (matrix[h, p] @ held[h])) for p in range(TEXT, COUNT))
        for h in range(HEADS)
    ]
    shares = output_shares(torch.from_numpy(matrix), torch.from_numpy(held), torch.arange(TEXT, COUNT))
    np.testing.assert_allclose(shares, np.array(energies) / sum(energies), rtol=1e-12)
    chain = mixed(torch.from_numpy(matrix), shares)
    np.testing.assert_allclose(chain, sum(e * m for e, m in zip(energies, matrix, strict=True)) / sum(energies))


def test_scores_are_shares_of_words_and_special_tokens():
    maps, special = torch.tensor([[0.2, 0.0], [0.1, 0.0]]), torch.tensor([0.7, 0.0])
    torch.testing.assert_close(rescaled(maps, special), torch.tensor([[0.2, 0.0], [0.1, 0.0]]))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    pytest.importorskip("diffusers")
    return observed(tmp_path_factory.mktemp("flux"), samples=2)


def kept(seen, call):
    """Weights and values of every layer of a call, from a forward of its own with attention written out."""
    from torch.nn import functional

    found, original = [], functional.scaled_dot_product_attention

    def written_out(query, key, value, **options):
        scale = options.get("scale") or query.shape[-1] ** -0.5
        matrix = (query.double() @ key.double().mT * scale).softmax(-1)
        found.append((matrix[0].numpy(), value[0].double().numpy()))
        return original(query, key, value, **options)

    functional.scaled_dot_product_attention = written_out
    try:
        with torch.no_grad():
            denoiser_of(seen.pipeline)(**seen.ran.inputs[seen.calls[call]])
    finally:
        functional.scaled_dot_product_attention = original
    return found


def outputs_by_loops(matrix, held):
    heads, count, size = held.shape
    out = np.zeros((count, heads * size))
    for head in range(heads):
        out[:, head * size : (head + 1) * size] = matrix[head] @ held[head]
    return out


def test_concept_attention_of_a_flux(seen):
    found = concept_attention(seen, WORDS)
    total, count = 0.0, 0
    for call in range(2):
        for matrix, held in kept(seen, call):
            out = outputs_by_loops(matrix, held)
            picture = seen.block(0).layout.indices("image")
            words = np.stack([out[list(seen.word(word))].mean(0) for word in WORDS])
            dots = words @ out[picture].T
            exponentials = np.exp(dots - dots.max(0))
            total, count = total + exponentials / exponentials.sum(0), count + 1
    assert count == 2 * len(seen.blocks)
    np.testing.assert_allclose(found.values.flatten(1), total / count, atol=1e-5)


def test_automatic_heads_of_a_flux(seen):
    found = automatic_heads(seen, WORDS, calls=-1)
    total = 0.0
    layers = kept(seen, -1)
    for matrix, held in layers:
        picture = seen.block(0).layout.indices("image")
        energy = np.array([np.square(matrix[h][picture] @ held[h]).sum() for h in range(len(held))])
        mean = np.einsum("h,hij->ij", energy / energy.sum(), matrix)[picture]
        words = np.stack([mean[:, list(seen.word(word))].mean(1) for word in WORDS])
        total = total + words / (words.sum(0) + mean[:, list(seen.special)].sum(1))
    np.testing.assert_allclose(found.values.flatten(1), total / len(layers), atol=1e-5)


def test_the_pipeline_runs_as_before_afterwards(seen):
    before = denoiser_of(seen.pipeline)(**seen.ran.inputs[seen.calls[0]])[0]
    concept_attention(seen, WORDS)
    after = denoiser_of(seen.pipeline)(**seen.ran.inputs[seen.calls[0]])[0]
    assert torch.equal(before, after)


def test_what_cannot_be_is_refused(seen):
    with pytest.raises(InputError, match="two or more"):
        concept_attention(seen, ["cat"])
    with pytest.raises(InputError, match="another forward"):
        concept_attention(chains()["blocks.0"], WORDS)


def test_cross_attention_gives_words_nothing(tmp_path):
    pytest.importorskip("diffusers")
    import tokenrank as tr
    from tests.diffusion import pipelines

    seen = tr.observe(photograph(), model=pipelines.stable_diffusion(tmp_path), prompt="a cat a dog", noise=0.5)
    with pytest.raises(InputError, match="joint attention"):
        concept_attention(seen, ["cat", "dog"])


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A picture that a FLUX of large weights saw with "a school bus"."""
    pytest.importorskip("diffusers")
    import tokenrank as tr
    from tests.diffusion import families

    pipe = families.told_apart(families.pipeline("FLUX.1", tmp_path_factory.mktemp("large")))
    return tr.observe(
        photograph(48, 32), model=pipe, prompt="a school bus", noise=0.5, call={"max_sequence_length": 24}
    )


def concepts_by_loops(seen, words):
    """ConceptAttention as in its paper: a stream for the words through the dual blocks, which the picture does not see.

    Returns what attention gives words and patches, block by block: (T, D) and (P, D).
    """
    from diffusers.models.embeddings import apply_rotary_emb

    denoiser, given = denoiser_of(seen.pipeline), seen.ran.inputs[seen.calls[0]]
    entered, found = [], []
    hooks = [
        block.register_forward_pre_hook(lambda _, __, options: entered.append(options), with_kwargs=True)
        for block in denoiser.transformer_blocks
    ]
    with torch.no_grad():
        denoiser(**given)
        for hook in hooks:
            hook.remove()
        concepts = denoiser.context_embedder(words.embeddings[None])
        for block, options in zip(denoiser.transformer_blocks, entered, strict=True):
            time, own = options["temb"], block.attn

            def split(x, heads=own.heads):
                return x.unflatten(-1, (heads, -1))

            image = block.norm1(options["hidden_states"], emb=time)[0]
            text = block.norm1_context(options["encoder_hidden_states"], emb=time)[0]
            normed, gate, shift, scale, gate_mlp = block.norm1_context(concepts, emb=time)

            def of_text(x, own=own, split=split):
                key, query = own.norm_added_k(split(own.add_k_proj(x))), own.norm_added_q(split(own.add_q_proj(x)))
                return query, key, split(own.add_v_proj(x))

            query, key = own.norm_q(split(own.to_q(image))), own.norm_k(split(own.to_k(image)))
            value = split(own.to_v(image))
            cos, sin = (each[-image.shape[1] :] for each in options["image_rotary_emb"])
            query, key = (apply_rotary_emb(each, (cos, sin), sequence_dim=1) for each in (query, key))
            _, text_key, text_value = of_text(text)  # text and words are at place 0, where nothing is turned
            word_query, word_key, word_value = of_text(normed)

            def attend(query, keys, values):
                query, keys, values = (x.transpose(1, 2) for x in (query, torch.cat(keys, 1), torch.cat(values, 1)))
                weights = (query @ keys.mT * query.shape[-1] ** -0.5).softmax(-1)
                return (weights @ values).transpose(1, 2).flatten(2)

            patches = attend(query, [text_key, key], [text_value, value])
            out = attend(word_query, [key, word_key], [value, word_value])
            found.append((out[0].double(), patches[0].double()))
            concepts = concepts + gate[:, None] * own.to_add_out(out)
            middle = block.norm2_context(concepts) * (1 + scale[:, None]) + shift[:, None]
            concepts = concepts + gate_mlp[:, None] * block.ff_context(middle)
    return found


def test_concept_attention_of_words_outside_of_the_prompt(beside):
    from tokenrank.denoisers.outside import encode_words

    asked = ["german shepherd", "sofa"]
    words = encode_words(beside.pipeline, asked, length=24)
    maps = []
    for out, patches in concepts_by_loops(beside, words):
        dots = torch.stack([out[list(words.places[word])].mean(0) for word in asked]) @ patches.T
        maps.append(dots.softmax(0))
    expected = torch.stack(maps).mean(0)
    found = concept_attention(beside.with_words(asked), asked, layers="transformer_blocks.*")
    assert float(expected.std(-1).min()) > 0.005
    np.testing.assert_allclose(found.values.flatten(1), expected, atol=1e-3 * float(expected.std()))
    # the picture is the model's: words that joined its keys would move what it is given
    one = concept_attention(beside.with_words(asked), asked, layers=0).values.flatten(1)
    np.testing.assert_allclose(one, maps[0], atol=1e-3 * float(maps[0].std()))


def test_words_of_the_prompt_are_the_same_beside_others(beside):
    prompted = ["a", "school bus"]
    alone, more = (concept_attention(seen, prompted) for seen in (beside, beside.with_words(["sofa"])))
    np.testing.assert_allclose(more.values, alone.values, atol=1e-6)


def test_automatic_heads_of_words_outside_of_the_prompt(beside):
    found = automatic_heads(beside.with_words(["german shepherd", "sofa"]), ["sofa", "school bus"])
    assert found.values.shape == (2, *beside.block(0).layout.grids["image"])
    assert 0 < float(found.values.min()) <= float(found.values.max()) < 1
