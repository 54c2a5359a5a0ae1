"""A sound and where attention goes in it: curves over time below its spectrogram, words over the frames they heard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis import Analysis
from ..chain import CrossAttention, TokenMap
from ..errors import InputError
from ..layout import Moment, TokenLayout
from ..models import Sound
from ..observation import Observation
from ..tasks.word_times import WordTimes, word_times
from .caption import caption, is_local, step_words, wrapped, write_lines
from .style import FULL, HEAT, INK, LINE, QUIET, SMALL, TITLE, drawable, paper_style, shortened

CURVE, START, EDGE, LOUD = "#5b2a86", "#c8102e", "#c8102e", "#d9d9d9"
LABEL, MARGIN, GAP = 0.78, 0.06, 0.07  # inches
SPECTRUM, STRIP, ROW, WORDS = 0.85, 0.42, 0.115, 0.50
AXIS = 0.30
BANDS, HIGHEST, RANGE = 96, 8000.0, 80.0  # bands, Hz, dB
WINDOW, HOP = 0.025, 0.005  # seconds
MOST_WORDS = 120


def sound_figure(analysis: Analysis, width: float = FULL, times: WordTimes | None = None) -> Figure:
    """The spectrogram with its words, then a curve over time for every n and for TokenRank forward and backward.

    Every curve has its own scale, from zero to its largest frame; the shade behind TokenRank is the loudness (root of
    the mean square of each frame). A red line is where the walk starts.

    Args:
        analysis: of a sound, on its frames.
        width: inches; ``view.FULL`` or ``view.COLUMN``.
        times: of the words; ``tr.tasks.word_times(observation)`` by default.

    Raises:
        InputError: an analysis of something else, of a sound that is not known, or whose frames have no seconds.
    """
    sound, layout = _sound(analysis.observation), _clock(analysis.layout)
    times = times or _times_of(analysis.observation)
    local, bounces = is_local(analysis), analysis.bounces
    labels: list[tuple[str, str, TokenMap]] = [(f"n = {n}", step_words(n, local), m) for n, m in bounces.items()]
    labels += [("TokenRank", "forward", analysis.forward), ("TokenRank", "backward", analysis.backward)]
    lines = wrapped(caption(analysis), width - 2 * MARGIN)
    head = WORDS if times else MARGIN
    body = head + SPECTRUM + len(labels) * (STRIP + GAP)
    height = body + AXIS + len(lines) * LINE + MARGIN
    with paper_style():
        figure = Figure(figsize=(width, height))
        place = _Place(figure, width, height)
        _draw_spectrum(place.axes(head, SPECTRUM), sound, times, width)
        for number, (title, subtitle, shown) in enumerate(labels):
            top = head + SPECTRUM + GAP + number * (STRIP + GAP)
            last = number == len(labels) - 1
            axes = place.axes(top, STRIP, title, subtitle)
            loudness = sound if title == "TokenRank" else None
            _draw_curve(axes, shown.values, layout, sound.seconds, loudness)
            if title != "TokenRank" and isinstance(analysis.start, Moment):
                axes.axvline(analysis.start.seconds, color=START, linewidth=0.9)
            axes.tick_params(labelbottom=last)
            if last:
                axes.set_xlabel("seconds", fontsize=SMALL, labelpad=1)
        write_lines(figure, lines, MARGIN, body + AXIS)
    return figure


def words_figure(
    observation: Observation,
    cross: CrossAttention | None = None,
    width: float = FULL,
    times: WordTimes | None = None,
) -> Figure:
    """The spectrogram with its words, and below it for each word the frames that the decoder looked at.

    Args:
        observation: of a sound by a model that writes it down.
        cross: (words, frames); ``observation.cross()`` by default. Rows are shown each on its own scale, from zero.
        width: inches.
        times: of the words, marked in their rows; ``tr.tasks.word_times(observation)`` by default.

    Raises:
        InputError: no sound, no words, or frames without seconds; several maps.
    """
    sound, found = _sound(observation), observation.cross() if cross is None else cross
    layout, times = _clock(found.columns), times or _times_of(observation)
    if found.weights.ndim != 2 or found.rows is None or found.rows.tokens is None:
        raise InputError(f"cross-attention of shape {tuple(found.shape)}, expected (words, frames) with their strings")
    names = found.rows.tokens[:MOST_WORDS]
    lines = wrapped([found.caption, "each word on its own scale"], width - 2 * MARGIN)
    head, rows = WORDS if times else MARGIN, max(ROW * len(names), STRIP)
    body = head + SPECTRUM + GAP + rows
    height = body + AXIS + len(lines) * LINE + MARGIN
    with paper_style():
        figure = Figure(figsize=(width, height))
        place = _Place(figure, width, height)
        _draw_spectrum(place.axes(head, SPECTRUM), sound, times, width)
        axes = place.axes(head + SPECTRUM + GAP, rows)
        values = found.weights[: len(names), layout.indices(layout.sound)].double().cpu().numpy()
        values = values / np.maximum(values.max(-1, keepdims=True), 1e-300)
        begin, end = _extent(layout)
        axes.imshow(values, extent=(begin, end, len(names), 0), aspect="auto", cmap=HEAT, interpolation="antialiased")
        for row, word in enumerate(times[: len(names)] if times else ()):
            axes.plot([word.begin, word.begin], [row, row + 1], color="white", linewidth=0.6)
        axes.set(xlim=(0, sound.seconds), ylim=(len(names), 0))
        axes.set_yticks(
            np.arange(len(names)) + 0.5, [shortened(drawable(name), 16) for name in names], parse_math=False
        )
        axes.tick_params(axis="y", length=0, labelsize=SMALL)
        axes.set_xlabel("seconds", fontsize=SMALL, labelpad=1)
        write_lines(figure, lines, MARGIN, body + AXIS)
    return figure


def spectrogram(sound: Sound) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Power in dB below the loudest, (bands, columns), lowest first; and the bands' frequencies in Hz, mel-spaced."""
    window = max(16, round(WINDOW * sound.rate))
    samples = sound.samples.cpu().double()
    samples = torch.nn.functional.pad(samples, (0, max(0, window - len(samples))))
    power = torch.stft(
        samples, max(512, 1 << (window - 1).bit_length()), max(1, round(HOP * sound.rate)), window,
        torch.hann_window(window, dtype=torch.float64), center=True, pad_mode="constant", return_complex=True,
    ).abs().square().numpy()  # fmt: skip
    highest = min(HIGHEST, sound.rate / 2)
    mels = np.linspace(_mel(50.0), _mel(highest), BANDS)
    bands = 700 * (np.exp(mels / 1127) - 1)
    places = bands / (sound.rate / 2) * (len(power) - 1)
    low = np.minimum(places.astype(int), len(power) - 2)
    share = (places - low)[:, None]
    db = 10 * np.log10((1 - share) * power[low] + share * power[low + 1] + 1e-12)
    return np.maximum(db - db.max(), -RANGE), bands


class _Place:
    """Axes below each other, in inches from the top."""

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.figure, self.width, self.height = figure, width, height

    def axes(self, top: float, tall: float, title: str = "", subtitle: str = "") -> Axes:
        room = (self.width - LABEL - MARGIN) / self.width
        axes = self.figure.add_axes((LABEL / self.width, 1 - (top + tall) / self.height, room, tall / self.height))
        axes.tick_params(length=2, width=0.5, pad=1.5)
        axes.spines[["top", "right"]].set_visible(False)
        for words, down, size, colour in ((title, 0.1, TITLE, INK), (subtitle, 0.1 + LINE * 1.05, SMALL, QUIET)):
            self.figure.text(
                MARGIN / self.width, 1 - (top + down) / self.height, words, fontsize=size, color=colour, va="center"
            )
        return axes


def _draw_spectrum(axes: Axes, sound: Sound, times: WordTimes | None, width: float) -> None:
    values, bands = spectrogram(sound)
    axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap="gray_r",
        extent=(0, sound.seconds, 0, BANDS),
        interpolation="antialiased",
    )
    shown = [hz for hz in (250, 1000, 4000) if hz < bands[-1]]
    axes.set_yticks(np.interp(shown, bands, np.arange(BANDS)), [f"{hz / 1000:g} kHz" for hz in shown])
    axes.set(xlim=(0, sound.seconds), ylim=(0, BANDS))
    axes.tick_params(labelbottom=False, bottom=False)
    axes.spines[:].set_visible(False)
    if times is None:
        return
    end = -np.inf
    apart = 0.09 / (width - LABEL - MARGIN) * sound.seconds
    for word in times:
        axes.axvline(word.begin, color=EDGE, linewidth=0.4, alpha=0.7)
        end = max(word.begin, end + apart)  # words do not stand on each other
        axes.text(end, BANDS + 2, shortened(drawable(word.text), 14), rotation=45, rotation_mode="anchor",
                  fontsize=SMALL, ha="left", va="bottom", clip_on=False)  # fmt: skip


def _draw_curve(axes: Axes, values: torch.Tensor, layout: TokenLayout, seconds: float, sound: Sound | None) -> None:
    curve = values[layout.indices(layout.sound)].double().cpu().numpy()
    begin, step = layout.seconds[layout.sound]
    middles = begin + step * (np.arange(len(curve)) + 0.5)
    if sound is not None:
        root = 10 ** (sound.loudness(step).numpy() / 20)
        axes.fill_between(step * (np.arange(len(root)) + 0.5), root / root.max(), color=LOUD, linewidth=0)
    axes.plot(middles, curve / max(curve.max(), 1e-300), color=CURVE, linewidth=0.7)
    axes.set(xlim=(0, seconds), ylim=(0, 1.05), yticks=[])


def _sound(observation: Observation) -> Sound:
    if observation.sound is None:
        raise InputError("no sound is known here, expected an observation of one: tr.observe('speech.wav', model=…)")
    return observation.sound


def _clock(layout: TokenLayout | None) -> TokenLayout:
    if layout is None or len(layout.seconds) != 1:
        raise InputError(
            f"the tokens ({layout}) have no seconds, expected frames of a sound: a model whose frames follow each "
            "other in time, and tokens='audio'"
        )
    return layout


def _extent(layout: TokenLayout) -> tuple[float, float]:
    begin, step = layout.seconds[layout.sound]
    return begin, begin + step * layout.spans[layout.sound]


def _times_of(observation: Observation) -> WordTimes | None:
    """The words with their times; None where the model writes none down, or nothing was said."""
    return word_times(observation) if observation.has_words else None


def _mel(hz: float) -> float:
    return 1127 * float(np.log(1 + hz / 700))
