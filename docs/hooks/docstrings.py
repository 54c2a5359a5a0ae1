"""Docstrings as Markdown: what is plain text in them stays plain, examples become code."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object

LITERAL = re.compile(r"^::\n\n(?P<code>(?:    .*\n|\n)+)", re.MULTILINE)
SESSION = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


def markdown(docstring: str) -> str:
    """A docstring of the source, its indentation taken off, as a reader of Markdown wants it.

    ``Example:`` is the section that Google's style calls ``Examples:``; a block after ``::`` and a session
    of ``>>>`` are code; a star that opens a shape, (*batch, N), is no emphasis.
    """
    text = LITERAL.sub(lambda m: f"```python\n{textwrap.dedent(m['code']).strip()}\n```\n\n", docstring)
    text = SESSION.sub(lambda m: f"```pycon\n{m[0].strip()}\n```\n", text)
    before, example, after = text.partition("\nExample:\n")
    pieces = re.split(r"(```.*?```|``.*?``|`.*?`)", before, flags=re.DOTALL)
    plain = [piece if piece.startswith("`") else re.sub(r"\(\*(?=\w)", r"(\\*", piece) for piece in pieces]
    return "".join(plain) + EXAMPLE.sub("Examples:", example) + after


class Markdown(Extension):
    """Every docstring that is read for the reference, through ``markdown``."""

    def on_object(self, *, obj: Object, **others: Any) -> None:
        """A function, class or module was read."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
