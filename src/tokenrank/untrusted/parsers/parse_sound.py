"""Sounds: libsndfile through soundfile, in the process apart."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import soundfile

_BLOCK = 2**16  # samples of every channel
_CUT = re.compile(r"^\s*(?:data|SSND)\s*: ([0-9]{1,18}) \(should be ([0-9]{1,18})\)", re.MULTILINE)
_ENDLESS = 2**31 - 2**16  # bytes; what is written to a pipe declares about as many as it can


def describe(path: str, limit: int) -> tuple[dict[str, Any], list[Any]]:
    """Samples a second, how many a channel the header declares, and channels."""
    with soundfile.SoundFile(path) as file:
        # the library takes a file that is cut off for a shorter one, and says so in its log only
        cut = _CUT.search(str(file.extra_info))
        if cut is not None and int(cut[2]) < int(cut[1]) < _ENDLESS:
            raise ValueError(f"its header declares {int(cut[1]):,} bytes of sound, of which {int(cut[2]):,} are there")
        return {"rate": int(file.samplerate), "frames": int(file.frames), "channels": int(file.channels)}, []


def mono(path: str, begin: int, count: int, limit: int) -> tuple[int, list[Any]]:
    """The mean of the channels from a sample on, float32."""
    with soundfile.SoundFile(path) as file:
        needed = 4 * (count + _BLOCK * file.channels)
        if needed > limit:
            raise MemoryError(needed, f"{count:,} samples of {file.channels:,} channels")
        made = np.empty(count, np.float32)
        file.seek(begin)
        found = 0
        while found < count:
            block = file.read(min(_BLOCK, count - found), dtype="float32", always_2d=True)
            if not len(block):
                raise ValueError(f"its header declares {begin + count:,} samples, of which {begin + found:,} are there")
            np.mean(block, axis=1, out=made[found : found + len(block)])
            found += len(block)
    return found, [made.view(np.uint8)]
