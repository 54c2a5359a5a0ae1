"""Sounds from files and arrays as one channel of float32, and how a model wants them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from ..endings import SOUNDS
from ..errors import InputError, first_line, printable, require
from ..html import image, note, panel
from ..untrusted import check, check_regular, installed
from ..untrusted.apart import RefusedError, ask, of_file
from ..untrusted.regular import occupied
from .waveform import waveform

SoundSource: TypeAlias = "str | bytes | os.PathLike[str] | Sound | npt.NDArray[np.generic] | Tensor"
"""What ``read_sound`` takes: a path, a ``Sound``, a numpy array or a tensor."""

MOST_SECONDS = 3600.0
_MOST_CHANNELS = 8
_SAMPLE = 4  # bytes
_LOUDEST = 16.0  # sums of channels and filters go beyond one; whole numbers made floats go far beyond
_FLOOR = 1e-10  # of the power, −100 dB
_PART = "take a part of it, part=(0, 30) in seconds"


@dataclass(frozen=True, eq=False, repr=False)
class Sound:
    """One channel of sound.

    Args:
        samples: (S,) floats, full scale from −1 to 1; kept as a tensor of float32.
        rate: samples a second.

    Raises:
        InputError: no samples, another shape, NaN or infinite samples, or a rate that is none.
    """

    samples: Tensor
    rate: int

    def __post_init__(self) -> None:
        given: Any = self.samples
        if isinstance(given, np.ndarray) and given.dtype.kind == "f":
            given = torch.from_numpy(_native(given))
        try:
            rate = 0 if isinstance(self.rate, bool) else index(self.rate)
        except TypeError:
            rate = 0
        if rate < 1:
            raise InputError(f"rate = {self.rate!r}, expected samples a second as a whole number, such as 16000")
        object.__setattr__(self, "rate", rate)
        if not isinstance(given, Tensor) or given.ndim != 1 or not given.is_floating_point():
            found = getattr(given, "dtype", type(given).__name__)
            raise InputError(
                f"samples are {found} of shape {tuple(np.shape(given))}, expected floats (S,): one channel, as a "
                "tensor or array; tr.observe mixes channels and reads whole numbers, rate=…"
            )
        object.__setattr__(self, "samples", given.detach().float())
        if not len(self.samples):
            raise InputError("the sound has no samples, expected one at least; is the file complete?")
        low, high = (float(end) for end in self.samples.aminmax())  # NaN where one sample is; no copy of an hour
        if not (math.isfinite(low) and math.isfinite(high)):
            wrong = ~torch.isfinite(self.samples)
            place = int(wrong.nonzero()[0])
            raise InputError(
                f"sample {place} of the sound is {self.samples[place].item()}, one of {int(wrong.sum()):,} that are no "
                "number, expected finite samples; cut or repair them"
            )
        if (peak := max(-low, high)) > _LOUDEST:
            raise InputError(
                f"samples go up to {peak:g}, expected full scale from -1 to 1; divide them (16 bits: by 32768), or "
                "give whole numbers such as int16"
            )

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def resampled(self, rate: int) -> Sound:
        """The same sound at another rate, by a polyphase filter (``scipy.signal.resample_poly``).

        Raises:
            MissingExtraError: the rate is another, and scipy is not installed.
        """
        if rate == self.rate:
            return self
        shared = math.gcd(rate, self.rate)
        resample = require("scipy.signal", "audio").resample_poly
        changed = resample(self.samples.cpu().double().numpy(), rate // shared, self.rate // shared)
        return Sound(torch.from_numpy(np.ascontiguousarray(changed)).float(), rate)

    def loudness(self, step: float, count: int | None = None) -> Tensor:
        """Mean power in dB of full scale of stretches of ``step`` seconds, (count,) in float64; −100 dB is silence.

        Args:
            step: seconds.
            count: how many stretches, from the beginning; those that fit, the last one not full, where None.
        """
        each = step * self.rate
        count = math.ceil(len(self.samples) / each - 1e-9) if count is None else count
        ends = [round(k * each) for k in range(count + 1)]
        sums = torch.cat([torch.zeros(1, dtype=torch.float64), self.samples.cpu().double().square().cumsum(0)])
        inside = torch.tensor(ends).clamp(max=len(self.samples))
        return 10 * torch.log10(sums[inside].diff() / torch.tensor(ends).diff() + _FLOOR)

    def picture(self) -> PIL.Image.Image:
        """Its waveform, grey; ``info["seconds"]`` of the picture says how long it is."""
        return waveform(self.samples, self.seconds)

    def __repr__(self) -> str:
        return f"Sound({self.seconds:.2f} s, {self.rate:,} samples a second)"

    def _repr_html_(self) -> str:
        drawn = image(self.picture(), "waveform", 720)
        peak = f"peak {float(self.samples.abs().max()):.3g} of full scale"
        return panel(f"Sound of {self.seconds:.2f} s", drawn, note(f"{self.rate:,} samples a second, {peak}"))


def read_sound(source: SoundSource, rate: int | None = None, part: tuple[float, float] | None = None) -> Sound:
    """A sound as one channel, the mean of its channels.

    Args:
        source: a path of what libsndfile reads (wav, flac, ogg, mp3, aiff, …; needs
            ``pip install 'tokenrank[audio]'``); a ``Sound``; an array or tensor (S,), (S, channels) or (channels, S) of
            floats, or of whole numbers, which are divided by the largest of their type (unsigned ones centred first).
        rate: samples a second, of an array.
        part: (from, to) in seconds, where not all of it is meant.

    Raises:
        InputError: not readable, no sound, nothing in it, NaN, an array without a rate, a part beyond the end, or
            more than an hour.
        MissingExtraError: soundfile is not installed.
    """
    if part is not None:
        _check_part(part)
    if isinstance(source, str | bytes | os.PathLike):
        if rate is not None:
            raise InputError(f"rate = {rate} for a file, which says its own; leave rate out")
        return _from_file(Path(os.fsdecode(source)), part)
    if isinstance(source, Sound):
        if rate not in (None, source.rate):
            raise InputError(f"rate = {rate} for a sound of {source.rate} samples a second; leave rate out")
        return _cut(source, part)
    if not isinstance(source, np.ndarray | Tensor):
        raise InputError(
            f"the sound is a {type(source).__name__}, expected a path, an array or tensor with rate=, or a tr.Sound"
        )
    if rate is None:
        raise InputError(
            f"an array of shape {tuple(source.shape)} without its rate; say how many samples a second it has: "
            "rate=16000, or tr.Sound(samples, rate)"
        )
    return _cut(Sound(_one_channel(_floats(source)), rate), part)


def is_sound(source: object) -> bool:
    """Whether something is a ``Sound``, or the name of a file that ends as sounds do."""
    named = isinstance(source, str | bytes | os.PathLike)
    return isinstance(source, Sound) or (named and Path(os.fsdecode(source)).suffix.lower() in SOUNDS)  # type: ignore[arg-type]


def _check_part(part: tuple[float, float]) -> None:
    try:
        begin, end = map(float, part)
    except (TypeError, ValueError):
        begin, end = math.nan, math.nan
    if not 0 <= begin < end:
        raise InputError(f"part = {part!r}, expected (from, to) in seconds, such as (0, 30)")


def _from_file(path: Path, part: tuple[float, float] | None) -> Sound:
    installed("soundfile", "audio")
    status = check_regular(path, "a sound")
    name, disk = printable(path), occupied(status)
    try:
        told, _ = ask("sound", "describe", name, disk, path=of_file(path))
        rate, frames = int(told["rate"]), int(told["frames"])
        begin, end = (0, frames) if part is None else _bounds(part, rate, frames)
        if end - begin > MOST_SECONDS * rate:
            raise InputError(
                f"{name} is {frames / rate / 60:.0f} minutes long, expected {MOST_SECONDS / 60:.0f} at most; {_PART}"
            )
        check(_SAMPLE * (end - begin), name, f"{end - begin:,} samples", disk)
        _, blobs = ask("sound", "mono", name, disk, path=of_file(path), begin=begin, count=end - begin)
    except RefusedError as error:
        raise InputError(
            f"{name} cannot be read as a sound: {first_line(error)}; convert it to wav, flac, ogg, mp3 or aiff"
        ) from None
    if not blobs[0]:
        raise InputError(f"the sound {name} has no samples, expected one at least; is the file complete?")
    return Sound(torch.frombuffer(blobs[0], dtype=torch.float32), rate)


def _cut(sound: Sound, part: tuple[float, float] | None) -> Sound:
    if part is None:
        return sound
    begin, end = _bounds(part, sound.rate, len(sound.samples))
    return Sound(sound.samples[begin:end], sound.rate)


def _bounds(part: tuple[float, float], rate: int, count: int) -> tuple[int, int]:
    """Samples from and to of a part of ``count`` samples, which may end with the sound."""
    begin, end = (count if second * rate >= count else round(second * rate) for second in part)
    if begin >= count:
        raise InputError(f"part = {part} begins after the end of the sound, which is {count / rate:.2f} s long")
    if begin == end:
        raise InputError(f"part = {part} holds no sample of a sound with {rate:,} a second; take a longer part")
    return begin, end


def _floats(source: npt.NDArray[np.generic] | Tensor) -> Tensor:
    """As float32 from −1 to 1; whole numbers by the range of their type."""
    try:
        given = source.detach().cpu() if isinstance(source, Tensor) else torch.from_numpy(_native(source))
    except TypeError as error:
        raise InputError(f"the sound is no array of numbers: {error}") from None
    if given.is_floating_point():
        return given.float()
    if given.is_complex() or given.dtype == torch.bool:
        raise InputError(f"samples are {given.dtype}, expected floats from -1 to 1, or whole numbers such as int16")
    kind = torch.iinfo(given.dtype)
    middle = 0 if kind.min else (kind.max + 1) // 2
    return (given.double() - middle).div(max(kind.max - middle, 1)).float()


def _native(source: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """In the byte order of this machine, one block of memory."""
    return np.ascontiguousarray(source, dtype=source.dtype.newbyteorder("="))


def _one_channel(samples: Tensor) -> Tensor:
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2 or (min(samples.shape) > _MOST_CHANNELS) or max(samples.shape) <= _MOST_CHANNELS:
        raise InputError(
            f"samples have shape {tuple(samples.shape)}, expected (S,), (S, channels) or (channels, S) with up to "
            f"{_MOST_CHANNELS} channels and more samples than that"
        )
    return samples.mean(0 if samples.shape[0] < samples.shape[1] else 1)


@dataclass(frozen=True)
class SoundSettings:
    """How a model wants its sounds.

    Attributes:
        extractor: the feature extractor of transformers.
        rate: samples a second.
        hop: samples for each column of what the extractor returns; 1 where those are the samples.
        longest: seconds that the model reads at once; None where there is no limit.
        window: whether shorter sounds are filled up to ``longest``.
    """

    extractor: Any
    rate: int
    hop: int = 1
    longest: float | None = None
    window: bool = False

    @classmethod
    def of_extractor(cls, extractor: Any) -> SoundSettings:
        """The settings that a feature extractor names."""
        rate, hop = int(extractor.sampling_rate), getattr(extractor, "hop_length", None)
        names = list(getattr(extractor, "model_input_names", ()))
        if isinstance(samples := getattr(extractor, "n_samples", None), int):
            return cls(extractor, rate, int(hop or 1), samples / rate, window=True)
        if "input_features" not in names and not hasattr(extractor, "num_mel_bins"):
            return cls(extractor, rate)
        hop = int(hop) if isinstance(hop, int) else rate // 100  # Kaldi's features: 10 ms
        most = getattr(extractor, "max_length", None)  # a spectrogram transformer cuts what is longer
        return cls(extractor, rate, hop, most * hop / rate if isinstance(most, int) else None)

    def inputs(self, sound: Sound, name: str) -> dict[str, Tensor]:
        """What the extractor makes of a sound, a batch of one, with a mask where it fills up a window.

        Raises:
            InputError: longer than the model reads; ``name`` is the model's, for the error.
        """
        if self.longest is not None and sound.seconds > self.longest + 1e-6:
            raise InputError(
                f"the sound is {sound.seconds:.2f} s long, model {name!r} reads {self.longest:g} s at once; take a "
                f"part of it: part=(0, {self.longest:g})"
            )
        samples = sound.resampled(self.rate).samples.cpu().numpy()
        more = {"return_attention_mask": True} if self.window else {}
        try:
            made = self.extractor(samples, sampling_rate=self.rate, return_tensors="pt", **more)
        except (ValueError, RuntimeError, AssertionError) as error:  # shorter than one window of the spectrogram
            raise InputError(
                f"the sound of {sound.seconds:.3f} s cannot be prepared for model {name!r}: {first_line(error)}; is it "
                "long enough?"
            ) from error
        return {key: value for key, value in made.items() if isinstance(value, Tensor)}
