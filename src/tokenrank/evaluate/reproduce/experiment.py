"""Experiment: a published claim, what it takes to check it, and what the figures should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .generation import Generation

Mark: TypeAlias = Literal["V", "S", "R", "I"]
"""Where a statement comes from: [V] read in public code, an author's reply or the data; [S] somebody's summary;
[R] the literature from memory, unconfirmed; [I] inferred here."""


@dataclass(frozen=True)
class Figure:
    """A number that is published. It is compared on the whole data set only, since a part of it has another.

    Attributes:
        method, column: which line and column of the protocol's summary.
        value: as published, as a share or in the column's unit.
        tolerance: how far off a reproduction may be.
        mark: where the number comes from.
        model: which of the experiment's models.
    """

    method: str
    column: str
    value: float
    tolerance: float
    mark: Mark
    model: int = 0


@dataclass(frozen=True)
class Order:
    """One method is better than another, image by image; compared on however many images there are.

    Attributes:
        better, worse: methods.
        column: of the rows, a number an image.
        mark: where the claim comes from.
        higher: whether a higher column is better.
        model: which of the experiment's models.
    """

    better: str
    worse: str
    column: str
    mark: Mark
    higher: bool = True
    model: int = 0


@dataclass(frozen=True)
class Gain:
    """What ``better`` gains over ``worse`` is more for one model than for another, image by image.

    Attributes:
        better, worse: methods.
        column: of the rows; higher is better.
        mark: where the claim comes from.
        more, less: which of the experiment's models.
    """

    better: str
    worse: str
    column: str
    mark: Mark
    more: int = 0
    less: int = 1


Check: TypeAlias = Figure | Order | Gain


@dataclass(frozen=True)
class Experiment:
    """All of it.

    Attributes:
        name: as typed.
        claim: one sentence.
        source: publication, section or table, with marks.
        models: hub ids, one or two.
        weights: what these are, in words, for a message that they are missing.
        dataset: format, as ``open_dataset`` knows it; ``folder`` is its place in TOKENRANK_DATA.
        origin: where the data can be had.
        images: of the whole data set.
        protocol: as ``find`` knows it, with ``options``.
        methods: as ``--methods`` takes them.
        expected: what should come out.
        head: whether the models need their classifier.
        pipeline: whether the models are pipelines of diffusers.
        generation: what is generated, where the pictures are made and not read; the protocol then is "generation", the
            data set holds Inception's weights, and ``methods`` names the arms.
        notes: what is known to differ from the original.
    """

    name: str
    claim: str
    source: str
    models: tuple[str, ...]
    weights: str
    dataset: str
    folder: str
    origin: str
    images: int
    protocol: str
    methods: str
    expected: tuple[Check, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    head: bool = False
    pipeline: bool = False
    generation: Generation | None = None
    notes: str = ""

    @property
    def command(self) -> str:
        """The command that runs it."""
        return f"tokenrank reproduce {self.name} --data DIR"
