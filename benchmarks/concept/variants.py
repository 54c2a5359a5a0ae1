"""Names of what is measured: a method with its layer and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EVERY = "all"
"""The mean of all layers."""


@dataclass(frozen=True)
class Variant:
    """A method, where it looks, and its options.

    Attributes:
        method: "bounce", "raw_column", ….
        layer: name, or ``EVERY``.
        options: pairs, in the order in which they are written.
    """

    method: str
    layer: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, method: str, layer: str, **options: Any) -> Variant:
        return cls(method, layer, tuple((name, f"{value}") for name, value in options.items()))

    def with_option(self, name: str, value: str) -> Variant:
        """The variant with one more option."""
        return Variant(self.method, self.layer, (*self.options, (name, value)))

    def __str__(self) -> str:
        return " | ".join([self.method, self.layer, *(f"{name}={value}" for name, value in self.options)])

    @classmethod
    def read(cls, text: str) -> Variant:
        """``str`` undone."""
        method, layer, *options = text.split(" | ")
        pairs = (option.partition("=") for option in options)
        return cls(method, layer, tuple((name, value) for name, _, value in pairs))

    @property
    def settings(self) -> Mapping[str, str]:
        """The options by name."""
        return dict(self.options)
