"""Results and certificates: one family, indexed together and told in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank import AttentionChain, TokenMap
from tokenrank.errors import ChainError
from tokenrank.markov import Certificate, Result
from tokenrank.markov.words import range_words

QUESTIONS: dict[str, Callable[[AttentionChain], Result]] = {
    "bounce": lambda c: c.bounce(0, 2),
    "tokenrank": lambda c: c.tokenrank(),
    "lambda2": lambda c: c.lambda2(),
    "spectrum": lambda c: c.spectrum(3, left=True),
    "classes": lambda c: c.classes(),
    "stationary_distributions": lambda c: c.stationary_distributions(),
    "absorption": lambda c: c.absorption([0, 2]),
    "hitting_times": lambda c: c.hitting_times(0),
    "mean_first_passage": lambda c: c.mean_first_passage(),
    "fundamental": lambda c: c.fundamental(torch.ones(6, 2)),
    "kemeny": lambda c: c.kemeny(),
    "entropy_rate": lambda c: c.entropy_rate(),
    "mixing_time": lambda c: c.mixing_time(),
    "dobrushin": lambda c: c.dobrushin(),
    "half_life": lambda c: c.half_life(0),
    "metastable": lambda c: c.metastable(2),
    "metastable, m chosen": lambda c: c.metastable(),
    "sinks": lambda c: c.sinks(),
    "quasi_stationary": lambda c: c.quasi_stationary(0),
}


def chain(*batch: int) -> AttentionChain:
    return AttentionChain(torch.randn(*batch, 6, 6, dtype=torch.float64).mul(2).softmax(-1))


# ---- every answer


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_answer_has_values_and_a_certificate(name: str) -> None:
    found = QUESTIONS[name](chain(2, 3))
    assert isinstance(found, Result)
    assert found.batch == (2, 3)
    assert isinstance(found.certificate, Certificate)
    certificate = found.certificate
    assert certificate.converged.shape[:2] == (2, 3)
    assert certificate.converged.shape == certificate.residual.shape == certificate.uncertain.shape
    assert certificate.converged.dtype == certificate.uncertain.dtype == torch.bool
    assert bool((certificate.uncertain | certificate.converged).all())  # what did not converge is uncertain


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("index", [(1, 2), 0, (..., -1), (slice(None), 1)])
def test_an_answer_of_one_chain_is_that_of_the_batch(name: str, index: object) -> None:
    whole = QUESTIONS[name](chain(2, 3))
    part = whole[index]
    assert type(part) is type(whole)
    plain = (slice(None), -1) if index == (..., -1) else index  # fields have dimensions of their own behind
    for field, value in whole.batched_fields().items():
        ours = getattr(part, field)
        if isinstance(value, Tensor):
            assert torch.equal(ours, value[plain]) or torch.isnan(value).any(), field
    assert part.certificate is not None
    assert whole.certificate is not None
    assert torch.equal(part.certificate.residual, whole.certificate.residual[plain])
    with pytest.raises(ChainError, match=r"does not fit the leading dimensions \(2, 3\)"):
        whole[0, 0, 0]


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_says_what_it_is(name: str) -> None:
    for found in (QUESTIONS[name](chain(2, 3)), QUESTIONS[name](chain())):
        text = repr(found)
        assert text.startswith(f"{type(found).__name__}(")
        assert str(found.certificate) in text
        assert "nan" not in text
        assert "tensor" not in text
        assert len(text) < 200
        noun = "map" if isinstance(found, TokenMap) else "chain"
        assert (f"2 × 3 {noun}s" if found.batch else f"1 {noun}") in text
        page = found._repr_html_()
        assert str(found.certificate).replace("&", "&amp;") in page
        assert page.count("<div") == page.count("</div>")


# ---- certificates in words


def certificate(
    converged: list[bool], residual: list[float], bound: list[float] | None = None, uncertain: list[bool] | None = None
) -> Certificate:
    doubt = {} if uncertain is None else {"uncertain": torch.tensor(uncertain)}
    proved = None if bound is None else torch.tensor(bound)
    return Certificate(torch.tensor(converged), torch.tensor(residual), proved, 12, "gmres", **doubt)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (certificate([True], [1e-9]), "converged, residual 1.0e-09, 12 applies, gmres"),
        (certificate([True], [0.0]), "converged, 12 applies, gmres"),
        (certificate([True], [0.0], [0.0]), "exact, 12 applies, gmres"),
        (certificate([True], [1e-9], [1e-7]),
         "converged, error ≤ 1.0e-07 (proved), residual 1.0e-09, 12 applies, gmres"),
        (certificate([False], [0.1]), "NOT converged, residual 1.0e-01, 12 applies, gmres"),
        (certificate([True, False], [1e-9, 0.1]), "NOT converged for 1 of 2, residual 1.0e-01, 12 applies, gmres"),
        (certificate([True, True], [0.0, 0.0], [1e-7, INF]),
         "converged, error ≤ 1.0e-07 (proved; not known for 1 of 2), 12 applies, gmres"),
        (certificate([True], [0.0], [NAN]), "converged, error bound not known, 12 applies, gmres"),
        (certificate([True, True], [1e-9, NAN]),
         "converged, residual 1.0e-09 (not known for 1 of 2), 12 applies, gmres"),
        (certificate([True, True], [1e-9, 0.0], None, [True, False]),
         "uncertain for 1 of 2, residual 1.0e-09, 12 applies, gmres"),
        (certificate([True, False, True], [1e-9, 1.0, 0.0], None, [True, True, False]),
         "NOT converged for 1 of 3, uncertain for 1 of 3, residual 1.0e+00, 12 applies, gmres"),
    ],
)  # fmt: skip
def test_in_words(told: Certificate, words: str) -> None:
    assert str(told) == words


def test_exact_certificates() -> None:
    told = Certificate.exact((2, 3), torch.device("cpu"), 1, "diagonal")
    assert str(told) == "exact, 1 apply, diagonal"
    assert str(Certificate.exact((), torch.device("cpu"), 0, "none")) == "exact"
    assert told.converged.shape == (2, 3)
    assert not told.uncertain.any()


def test_uncertain_is_what_did_not_converge_where_nothing_else_is_said() -> None:
    assert certificate([True, False], [0.0, 1.0]).uncertain.tolist() == [False, True]


def test_joined_in_order() -> None:
    parts = [certificate([True], [1e-9], [1e-8]), certificate([False], [1.0], [2.0])]
    other = Certificate(*[getattr(parts[1], f) for f in ("converged", "residual", "error_bound")], 30, "power")
    whole = Certificate.joined([parts[0], other], (2,), ("power", "gmres"))
    assert whole.converged.tolist() == [True, False]
    assert whole.error_bound is not None
    assert whole.error_bound.tolist() == pytest.approx([1e-8, 2.0])
    assert (whole.applies, whole.method) == (30, "gmres")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 1, 5)])
def test_expanded(shape: tuple[int, ...]) -> None:
    told = Certificate(torch.ones(2, 3) > 0, torch.rand(2, 3), torch.rand(2, 3), 1, "power")
    wide = told.expand(*shape)
    assert wide.converged.shape == wide.uncertain.shape == shape
    assert torch.equal(wide.residual.reshape(2, 3, -1)[..., 0], told.residual)
    assert told[0, 0].expand().residual.shape == ()


# ---- numbers in words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.tensor(0.25), "0.25"),
        (torch.tensor(INF), "infinite"),
        (torch.tensor([1.0, INF, NAN]), "1, 1 of 3 infinite, 1 of 3 not defined"),
        (torch.tensor([1, 5]), "1 … 5"),
        (torch.tensor([True, False]), "1 of 2 true"),
        (torch.tensor([3 + 4j, 0]), "moduli 0 … 5"),
        (torch.tensor([NAN, NAN]), "2 of 2 not defined"),
        (torch.zeros(0), "no numbers"),
    ],
)
def test_ranges_in_words(values: Tensor, words: str) -> None:
    assert range_words(values) == words


@settings(max_examples=200)
@given(st.lists(st.floats(width=32), max_size=9))
def test_no_nan_without_a_word(numbers: list[float]) -> None:
    words = range_words(torch.tensor(numbers))
    assert "nan" not in words
    assert "inf " not in f"{words} "
