"""Every model and variant of the matrix: records against the library's own weights, or against its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch

from .case import Case
from .check import Row, checked, why_skipped

FILES = (
    "transformers_vision",
    "transformers_text",
    "transformers_multimodal",
    "timm_models",
    "diffusers_models",
    "torch_modules",
    "transformer_lens",
)


def all_cases() -> list[Case]:
    names = [f"{__package__}.{name}" for name in FILES]
    return [case for name in names if find_spec(name) for case in import_module(name).CASES]


CASES = all_cases()


@pytest.fixture(autouse=True)
def undisturbed_compiler(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "flex" in request.node.name:
        torch.compiler.reset()


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.library}: {c.target}, {c.variant}")
def test_records_are_the_librarys_own_attention(case: Case, rows: list[Row]) -> None:
    why = why_skipped(case)
    row = Row(case.library, case.target, case.variant, "skipped", note=why) if why else checked(case)
    rows.append(row)
    if row.status == "skipped":
        pytest.skip(row.note)


def test_every_row_has_a_name_of_its_own() -> None:
    names = [(case.library, case.target, case.variant) for case in CASES]
    assert len(names) > 40
    assert len(set(names)) == len(names)
