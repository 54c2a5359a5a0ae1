"""When each word of a transcript is said: cross-attention put in order by dynamic time warping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Unpack

from ..errors import InputError
from ..observation import CrossHeads, Word
from ..reading import Reading, Source, observe

MEDIAN = 7  # frames


@dataclass(frozen=True)
class TimedWord:
    """A word and when it is said.

    Attributes:
        text: the word.
        begin: seconds from the beginning of the sound.
        end: the same.
    """

    text: str
    begin: float
    end: float


@dataclass(frozen=True)
class WordTimes(Sequence[TimedWord]):
    """The words of a transcript in order.

    Attributes:
        words: with their times.
        caption: model and heads of cross-attention that the times come from.
    """

    words: tuple[TimedWord, ...]
    caption: str

    @overload
    def __getitem__(self, index: int) -> TimedWord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TimedWord]: ...
    def __getitem__(self, index: int | slice) -> TimedWord | Sequence[TimedWord]:
        return self.words[index]

    def __len__(self) -> int:
        return len(self.words)


def word_times(source: Source, heads: CrossHeads = None, **reading: Unpack[Reading]) -> WordTimes:
    """When each word is said, as Whisper does it.

    Each head's cross-attention over the frames of the sound is divided by its spread over the tokens and smoothed over
    seven frames; dynamic time warping finds the path through the mean of the heads that never goes back.

    Args:
        source: an ``Observation`` of a sound by a model that writes it down, or what ``tr.observe`` takes.
        heads: pairs (decoder layer, head); the alignment heads of the model's generation_config where None. Where it
            names none, all heads are taken, which is worse (the caption says which they are).
        reading: what ``tr.observe`` takes beside the source.

    Raises:
        InputError: no transcript, or no word in it. CaptureError: no cross-attention.
        LayoutError: it is unknown how long a frame is.

    Source: Radford et al., "Robust speech recognition via large-scale weak supervision" (2023), ``whisper/timing.py``.
    """
    observation = observe(source, **reading)
    cross = observation.cross(heads, of="heads")
    words = observation.words
    if not words:
        raise InputError("the transcript has no word; give what is said, said=…, or another sound")
    frames = first_frames(cross.weights, words)
    layout = cross.columns
    if layout is None or not layout.seconds:
        raise InputError(
            f"model {observation.name!r} does not say how long a frame is; observe with a model of tr.load"
        )
    begin, step = layout.seconds[layout.sound]
    timed = tuple(
        TimedWord(word.text, begin + step * first, begin + step * last)
        for word, (first, last) in zip(words, frames, strict=True)
    )
    return WordTimes(timed, cross.caption)


def first_frames(weights: Tensor, words: Sequence[Word]) -> list[tuple[int, int]]:
    """(first frame, first frame of what follows) of every word.

    Args:
        weights: (heads, tokens, frames), rows summing to one, row i predicting token i + 1.
        words: in order.
    """
    first, last = words[0].tokens.start, words[-1].tokens.stop
    cost = -standardised(weights).mean(0)[first - 1 : last].cpu().numpy()
    rows, columns = warped(cost)
    begins = columns[np.concatenate([[True], np.diff(rows) > 0])]
    return [(int(begins[w.tokens.start - first]), int(begins[w.tokens.stop - first])) for w in words]


def standardised(weights: Tensor) -> Tensor:
    """(…, tokens, frames) minus the mean over tokens, over the deviation, then the median of seven frames; float64."""
    weights = weights.double()
    spread, mean = torch.std_mean(weights, -2, keepdim=True, unbiased=False)
    scaled = (weights - mean) / spread.clamp_min(1e-12)
    if scaled.shape[-1] <= MEDIAN // 2:
        return scaled
    flat = scaled.reshape(1, -1, scaled.shape[-1])
    padded = torch.nn.functional.pad(flat, (MEDIAN // 2, MEDIAN // 2), mode="reflect")
    return padded.unfold(-1, MEDIAN, 1).median(-1).values.reshape(scaled.shape)


def warped(cost: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The cheapest path from the first cell to the last, each step one row down, one column right, or both.

    Args:
        cost: (R, C).

    Returns:
        Rows and columns of its cells.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    came = np.zeros((rows, columns), dtype=np.int8)  # 0 both, 1 from above, 2 from the left
    for j in range(columns):
        for i in range(rows):
            both, above, left = total[i, j], total[i, j + 1], total[i + 1, j]
            # as in Whisper, from the left unless another is truly cheaper
            came[i, j] = 0 if both < min(above, left) else 1 if above < min(both, left) else 2
            total[i + 1, j + 1] = cost[i, j] + (both, above, left)[came[i, j]]
    i, j = rows - 1, columns - 1
    path = [(i, j)]
    while i or j:
        step = 2 if i == 0 else 1 if j == 0 else came[i, j]
        i, j = i - (step != 2), j - (step != 1)
        path.append((i, j))
    places = np.array(path[::-1])
    return places[:, 0], places[:, 1]
