"""One case of the matrix: run it, capture it, compare, and say what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch import Tensor, nn

from tokenrank.errors import CaptureError
from tokenrank.recording import AttentionRecord, Recorder

from .case import Case, NotAccepted
from .witness import Witness, output_error

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Row:
    """What a case showed; the fields of a line in the results."""

    library: str
    target: str
    variant: str
    status: str  # "passed", "skipped" or "refused"
    kinds: tuple[str, ...] = ()
    records: int | None = None
    error: float | None = None  # greatest absolute difference
    oracle: str = ""  # "own weights" or "output"
    note: str = ""


def installed(library: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def why_skipped(case: Case) -> str:
    """Why a case cannot run with what is installed, before anything is built; "" where it can."""
    found = installed(case.library)
    if found is None:
        return f"{case.library} is not installed"
    if case.since and Version(found).release < Version(case.since).release:
        return f"not in {case.library} {found}, needs {case.since}"
    return ""


def checked(case: Case) -> Row:
    """Run a case to the end; assertions fail where capture and model disagree."""
    torch.manual_seed(0)
    try:
        model = case.build()
    except (ImportError, AttributeError) as missing:
        return _skipped(case, f"not in {case.library} {installed(case.library)}: {missing}")
    except NotAccepted as refusal:
        return _skipped(case, str(refusal))
    inputs = case.inputs()
    if case.refused:
        return _refused(case, model, inputs)
    flexible = "flex" in case.kinds
    with torch.compiler.set_stance("force_eager") if flexible else nullcontext():
        before = _run(model, inputs)
    witness = Witness()
    with witness, Recorder(model) as recorder:
        during = _run(model, inputs)
    recorder.check()
    records = recorder.records
    _assert_identical(before, during)
    kinds = tuple(sorted({record.kind for record in records}))
    assert kinds == case.kinds, f"seen as {kinds}, expected {case.kinds}"
    assert case.records in (None, len(records)), f"{len(records)} records, expected {case.records}"
    if case.own is None:
        error, oracle = output_error(records, witness.seen), "output"
    else:
        torch.manual_seed(1)
        with torch.no_grad():
            error, oracle = _own_error(records, case.own(model, inputs)), "own weights"
        if "sdpa" in kinds or "flex" in kinds:
            fused = [record for record in records if record.kind in ("sdpa", "flex")]
            calls = [call for call in witness.seen if call.value is not None]
            assert output_error(fused, calls) <= TOLERANCE, "records do not give the outputs of the attention calls"
    assert error <= TOLERANCE, f"records differ from {oracle} by {error:.2g}, expected at most {TOLERANCE:.0e}"
    return Row(case.library, case.target, case.variant, "passed", kinds, len(records), error, oracle, case.note)


def _own_error(records: list[AttentionRecord], own: list[Tensor]) -> float:
    assert len(records) == len(own), f"{len(records)} records, the library reports {len(own)}"
    assert max(float(weights.amax()) for weights in own) > 0.5, "attention is too even to show a mistake"
    errors = []
    for record, weights in zip(records, own, strict=True):
        shapes = f"{record.name}: record {tuple(record.shape)}, own weights {tuple(weights.shape)}"
        assert record.shape.numel() == weights.numel(), shapes
        seen = record.to_dense(torch.float64).reshape(weights.shape)
        errors.append(float((seen - weights.double())[~_idle(record, seen, weights)].abs().max()))
    return max(errors)


def _idle(record: AttentionRecord, seen: Tensor, weights: Tensor) -> Tensor:
    """Queries that may attend to nothing: fused kernels return zeros for them, hand-written attention is even.

    What fused kernels return is compared with the record besides, so such a query is no excuse for
    a mask that hides too much.
    """
    nothing = seen.sum(-1) == 0
    if record.kind in ("sdpa", "flex"):
        return nothing
    return nothing & (weights.amax(-1) - weights.amin(-1) < 1e-6)


def _refused(case: Case, model: nn.Module, inputs: dict[str, Any]) -> Row:
    before = _run(model, inputs)
    with Recorder(model) as recorder:
        during = _run(model, inputs)
    _assert_identical(before, during)
    with pytest.raises(CaptureError, match=case.refused) as caught:
        recorder.check()
    note = case.note or str(caught.value)
    return Row(case.library, case.target, case.variant, "refused", note=note)


def _skipped(case: Case, why: str) -> Row:
    return Row(case.library, case.target, case.variant, "skipped", note=" ".join(why.split()))


def _run(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    torch.manual_seed(1)  # for models that draw numbers
    with torch.no_grad():
        return [tensor.clone() for tensor in _tensors(model(**inputs))]


def _tensors(output: Any) -> Iterator[Tensor]:
    """All tensors of an output, however nested; caches of keys are passed over, as they change with every call."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)
    elif is_dataclass(output):
        for field in fields(output):
            yield from _tensors(getattr(output, field.name))


def _assert_identical(before: list[Tensor], during: list[Tensor]) -> None:
    assert before, "the model returned no tensors"
    assert len(before) == len(during), f"{len(before)} tensors in the output, {len(during)} with capture"
    for a, b in zip(before, during, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num()), "outputs differ with and without capture"
