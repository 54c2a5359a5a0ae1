"""Whisper tiny.en with its real weights, on a sound made here: nothing about speech, everything about the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tokenrank as tr
from tests.audio.speech import tone

from .conftest import network

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def whisper_folder() -> Path:
    return network("whisper-tiny-en")


@pytest.fixture(scope="module")
def heard(whisper_folder: Path) -> tr.Observation:
    sound = tr.Sound(tone(4.0) * torch.hann_window(64000), 16000)
    return tr.observe(sound, model=whisper_folder, said="And so my fellow Americans")


def test_tokenrank_of_every_layer_is_that_of_lapack(heard: tr.Observation):
    for layer in heard.layers:
        chain = heard.chain(layer, "uniform")
        n = chain.num_tokens
        assert n == 200
        a = chain.to_dense().double().numpy()
        right = np.linalg.solve(np.eye(n) - 0.99 * a.T, np.full(n, 0.01 / n))
        found = chain.tokenrank()
        assert np.abs(found.values.numpy() - right).sum() < 1e-6
        assert np.abs(found.values.numpy() - right).sum() <= float(found.certificate.error_bound) + 1e-12


def test_lambda2_of_every_head(heard: tr.Observation):
    found = heard.lambda2(0)
    for head, value in zip(heard.head_chains(0).to_dense().double().numpy(), found.values.tolist(), strict=True):
        assert value == pytest.approx(np.sort(np.abs(np.linalg.eigvals(head)))[-2], rel=1e-4)


def test_attention_is_the_models_own(heard: tr.Observation, whisper_folder: Path):
    eager = tr.load(whisper_folder, attention="eager")
    with torch.no_grad():
        right = eager.module(**heard.inputs, output_attentions=True)
    for layer in range(4):
        found = heard.trace.cross(f"model.decoder.layers.{layer}.encoder_attn").weights
        torch.testing.assert_close(found, right.cross_attentions[layer], atol=1e-4, rtol=0)


def test_words_and_times(heard: tr.Observation):
    times = tr.tasks.word_times(heard, [(2, 0), (3, 0)])
    assert [word.text for word in times] == ["And", "so", "my", "fellow", "Americans"]
    assert all(0 <= word.begin <= word.end <= 4 for word in times)
