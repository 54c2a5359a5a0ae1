"""Sentences of free texts: what chooses the vocabulary, what weights are fitted to, what is kept to measure."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

SHORTEST, LONGEST = 20, 400  # characters
_NO_TEXT = re.compile(r"licen[sc]e|notice|readme|changelog", re.IGNORECASE)


@dataclass(frozen=True)
class Corpus:
    """Sentences, each once, in random order."""

    train: list[str]
    held_out: list[str]


def read_corpus(folder: Path, held_out: int = 2000, seed: int = 0) -> Corpus:
    """Every ``*.txt`` below the folder and the glosses of WordNet's ``data.*``; the first ``held_out`` are kept apart.

    Raises:
        ValueError: less than ten times as many sentences as are kept apart.
    """
    found: dict[str, None] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or _NO_TEXT.search(path.stem):
            continue
        if path.suffix == ".txt":
            found.update(dict.fromkeys(sentences(path.read_text(encoding="utf-8", errors="replace"))))
        elif path.stem == "data" and path.parent.name == "dict":
            found.update(dict.fromkeys(glosses(path.read_text(encoding="utf-8", errors="replace"))))
    if len(found) < 10 * held_out:
        raise ValueError(f"{len(found)} sentences in {folder}, expected {10 * held_out}; see training/README.md")
    shuffled = list(found)
    random.Random(seed).shuffle(shuffled)
    return Corpus(shuffled[held_out:], shuffled[:held_out])


def sentences(text: str) -> list[str]:
    """Sentences of 21 to 399 characters, white space made even."""
    parts = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text))
    return [part.strip() for part in parts if SHORTEST < len(part) < LONGEST]


def glosses(text: str) -> list[str]:
    """What stands behind the bar in the lines of a data file of WordNet; its licence lines begin with two spaces."""
    lines = [line for line in text.splitlines() if " | " in line and not line.startswith("  ")]
    return [line.split(" | ", 1)[1].strip() for line in lines]
