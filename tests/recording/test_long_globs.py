"""Names and globs of a megabyte."""

from __future__ import annotations

import time

from tokenrank.recording.selection import matches_name


def test_a_glob_without_end_takes_no_time():
    began = time.monotonic()
    long = "\x1b[31m" * 200_000
    assert matches_name(long, long)
    assert not matches_name(long + "x", long)
    assert time.monotonic() - began < 5  # minutes before
    assert matches_name("layer.[12]", "layer.2.attention")
