"""What an example printed, compared with what is written beside it."""

from __future__ import annotations

import doctest
import re

import pytest

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NUMBER = re.compile(r"-?\d+\.\d*(?:e[-+]?\d+)?")


class Checker(doctest.OutputChecker):
    """Texts are compared as they are, numbers with a point up to the last digits: 6.0000 is 6."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        ours, theirs = ([float(n) for n in NUMBER.findall(text)] for text in (want, got))
        same = len(ours) == len(theirs) and ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
        return same and super().check_output(NUMBER.sub("#", want), NUMBER.sub("#", got), optionflags)
