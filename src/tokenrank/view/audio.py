"""A sound and where attention goes in it: curves over time below its spectrogram, words over the frames they heard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from ..analysis import Analysis
from ..chain import CrossAttention, TokenMap
from ..chain.shown_figure import ShownFigure
from ..errors import InputError
from ..layout import Moment, TokenLayout
from ..markov.sinks import outshining
from ..models import Sound
from ..observation import Observation
from ..tasks.word_times import WordTimes, word_times
from .caption import caption, is_local, step_words, wrapped, write_lines
from .glyphs import drawable, fonts, glyph_notes, laid_out, shortened
from .style import ACCENT, FULL, HEAT, INK, LINE, QUIET, SMALL, TITLE, Scale, paper_style, scales
from .token_boxes import widths

START, EDGE, LOUD = "#c8102e", "#0b7285", "#d9d9d9"
LABEL, MARGIN, RIGHT, GAP = 0.78, 0.06, 0.12, 0.07  # inches
SPECTRUM, STRIP, ROW = 0.85, 0.42, 0.115
LEADER, APART, AWAY, LONGEST = 0.07, 0.105, 0.3, 16  # inches from a word to its time; characters of a word
AXIS = 0.30
BANDS, HIGHEST, RANGE = 96, 8000.0, 80.0  # bands, Hz, dB
WINDOW, HOP = 0.025, 0.005  # seconds
MOST_WORDS = 120


def sound_figure(
    analysis: Analysis, width: float = FULL, times: WordTimes | None = None, scale: Scale = "each"
) -> Figure:
    """The spectrogram with its words, then a curve over time for every n and for TokenRank forward and backward.

    The shade behind TokenRank is the loudness (root of the mean square of each frame). A red line is where the walk
    starts. Frames that hold more than 30 % of a map, and twice an even share, are cut off and have their share written
    beside them (``markov.sinks.outshining``). Words that would stand far from their time are left out, and counted.

    Args:
        analysis: of a sound, on its frames.
        width: inches; ``view.FULL`` or ``view.COLUMN``.
        times: of the words; ``tr.tasks.word_times(observation)`` by default.
        scale: "each" draws every curve from zero to its largest frame, so that shapes can be compared; "shared" all of
            them to the largest of all, so that amounts can.

    Raises:
        InputError: an analysis of something else, of a sound that is not known, or whose frames have no seconds;
            another scale.
    """
    sound, layout = _sound(analysis.observation), _clock(analysis.layout)
    times = times or _times_of(analysis.observation)
    local, bounces = is_local(analysis), analysis.bounces
    labels: list[tuple[str, str, TokenMap]] = [(f"n = {n}", step_words(n, local), m) for n, m in bounces.items()]
    labels += [("TokenRank", "forward", analysis.forward), ("TokenRank", "backward", analysis.backward)]
    curves = [m.values[layout.indices(layout.sound)].double().cpu() for _, _, m in labels]
    scales([], scale)  # refuses another word
    tops = [float(curve[~outshining(curve)].max()) for curve in curves]
    tops = [max(tops)] * len(tops) if scale == "shared" else tops
    heard = _Heard(times, sound.seconds, width)
    starts = isinstance(analysis.start, Moment)
    notes = [*caption(analysis), *_curve_notes(curves, tops, scale), *heard.notes]
    notes += ["red: where the walk starts"] if starts else []
    lines = wrapped([*notes, "grey: loudness"], width - 2 * MARGIN)
    body = heard.height + SPECTRUM + len(labels) * (STRIP + GAP)
    height = body + AXIS + len(lines) * LINE + MARGIN
    with paper_style(heard.letters):
        figure = ShownFigure(figsize=(width, height))
        place = _Place(figure, width, height)
        _draw_spectrum(place.axes(heard.height, SPECTRUM), sound, heard)
        for number, ((title, subtitle, _), curve, top) in enumerate(zip(labels, curves, tops, strict=True)):
            last = number == len(labels) - 1
            axes = place.axes(heard.height + SPECTRUM + GAP + number * (STRIP + GAP), STRIP, title, subtitle)
            _draw_curve(axes, curve, top, layout, sound, loud=title == "TokenRank")
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
        cross: (words, frames); ``observation.cross()`` by default. Rows are shown each on its own scale, from zero; of
            more than 120 words the first 120, and the caption says so.
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
    heard = _Heard(times, sound.seconds, width)
    notes = [found.caption, "each word on its own scale", *(["white: where it begins"] if times else []), *heard.notes]
    notes += (
        [f"the first {MOST_WORDS} of {len(found.rows.tokens):,} words"] if len(found.rows.tokens) > MOST_WORDS else []
    )
    lines = wrapped([*notes, *(glyph_notes(names) if times is None else [])], width - 2 * MARGIN)
    rows = max(ROW * len(names), STRIP)
    body = heard.height + SPECTRUM + GAP + rows
    height = body + AXIS + len(lines) * LINE + MARGIN
    shown = [laid_out(shortened(drawable(name), LONGEST)) for name in names]
    with paper_style(heard.letters + "".join(shown)):
        figure = ShownFigure(figsize=(width, height))
        place = _Place(figure, width, height)
        _draw_spectrum(place.axes(heard.height, SPECTRUM), sound, heard)
        axes = place.axes(heard.height + SPECTRUM + GAP, rows)
        values = found.weights[: len(names), layout.indices(layout.sound)].double().cpu().numpy()
        values = values / np.maximum(values.max(-1, keepdims=True), 1e-300)
        begin, end = _extent(layout)
        axes.imshow(values, extent=(begin, end, len(names), 0), aspect="auto", cmap=HEAT, interpolation="antialiased")
        for row, word in enumerate(times[: len(names)] if times else ()):
            axes.plot([word.begin, word.begin], [row, row + 1], color="white", linewidth=0.6)
        axes.set(xlim=(0, sound.seconds), ylim=(len(names), 0))
        axes.set_yticks(np.arange(len(names)) + 0.5, shown, parse_math=False)
        axes.tick_params(axis="y", length=0, labelsize=SMALL)
        axes.set_xlabel("seconds", fontsize=SMALL, labelpad=1)
        write_lines(figure, lines, MARGIN, body + AXIS)
    return figure


class _Heard:
    """The words above a spectrogram: what is drawn of them, where, and how high they are.

    Attributes:
        words: (text, seconds where it begins, seconds where its label stands).
        height: inches.
        letters: of all words.
        notes: for the caption.
    """

    def __init__(self, times: WordTimes | None, seconds: float, width: float) -> None:
        self.words: list[tuple[str, float, float]] = []
        self.height, self.letters, self.notes = MARGIN, "", []
        if not times:
            return
        texts = [laid_out(shortened(drawable(word.text), LONGEST)) for word in times]
        self.letters = "".join(texts)
        font = FontProperties(family=list(fonts(self.letters)), size=SMALL)
        slant = np.array(widths(texts, font)) / np.sqrt(2)  # labels stand at 45°
        inch = (width - LABEL - RIGHT) / seconds
        begins = np.array([word.begin for word in times]) * inch
        kept, spots = _spread(begins, (width - LABEL - MARGIN) - slant - SMALL / 72)
        self.words = [(texts[i], begins[i] / inch, x / inch) for i, x in zip(kept, spots, strict=True)]
        self.height = MARGIN + LEADER + float(slant[kept].max()) + 1.4 * SMALL / 72
        self.notes = ["lines: where words begin"]
        self.notes += [f"{len(kept)} of {len(texts)} words have room above"] if len(kept) < len(texts) else []
        self.notes += glyph_notes(word.text for word in times)


def _spread(
    begins: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]
) -> tuple[list[int], npt.NDArray[np.float64]]:
    """Which labels are kept, and where they stand so that none is on another: inches.

    Args:
        begins: where they should stand, increasing.
        ends: where each may stand at most.
    """
    kept = list(range(len(begins)))
    while True:
        right, left = begins[kept], np.minimum(begins[kept], ends[kept])
        room = np.arange(len(kept)) * APART
        right = np.maximum.accumulate(right - room) + room
        spots = np.minimum((right + _pulled(left)) / 2, ends[kept])
        spots = _pulled(spots)
        if len(kept) == 1 or spots[0] >= -APART:
            return kept, spots
        kept = _less(kept, begins)


def _pulled(spots: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To the left as far as those to the right need."""
    room = np.arange(len(spots)) * APART
    pulled: npt.NDArray[np.float64] = np.minimum.accumulate((spots - room)[::-1])[::-1] + room
    return pulled


def _less(kept: list[int], begins: npt.NDArray[np.float64]) -> list[int]:
    """Without the words that stand furthest from their time where words crowd, or else without every other one."""
    some: list[int] = []
    free = 0.0
    for i in kept:
        if free - begins[i] <= AWAY:
            some.append(i)
            free = max(free, float(begins[i])) + APART
    return some if len(some) < len(kept) else kept[::2]


def _curve_notes(curves: list[torch.Tensor], tops: list[float], scale: Scale) -> list[str]:
    count = len(curves[0])
    if scale == "shared":
        notes = [
            f"height: attention on a frame, all curves from 0 to {tops[0] * count:.3g} × an even share (1/{count:,})"
        ]
    else:
        notes = ["height: attention on a frame, each curve from 0 to its largest"]
    cut = any(bool(outshining(curve).any()) for curve in curves)
    return notes + (["frames that hold over 30 %, as written, are cut off"] if cut else [])


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
        room = (self.width - LABEL - RIGHT) / self.width
        axes = self.figure.add_axes((LABEL / self.width, 1 - (top + tall) / self.height, room, tall / self.height))
        axes.tick_params(length=2, width=0.5, pad=1.5)
        axes.spines[["top", "right"]].set_visible(False)
        for words, down, size, colour in ((title, 0.1, TITLE, INK), (subtitle, 0.1 + LINE * 1.05, SMALL, QUIET)):
            self.figure.text(
                MARGIN / self.width, 1 - (top + down) / self.height, words, fontsize=size, color=colour, va="center"
            )
        return axes


def _draw_spectrum(axes: Axes, sound: Sound, heard: _Heard) -> None:
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
    above = BANDS * (1 + LEADER / SPECTRUM)
    for text, begin, spot in heard.words:
        axes.axvline(begin, color=EDGE, linewidth=0.4, alpha=0.7)
        axes.plot([begin, spot], [BANDS, above], color=EDGE, linewidth=0.4, alpha=0.7, clip_on=False)
        axes.text(spot, above, text, rotation=45, rotation_mode="anchor", fontsize=SMALL, ha="left", va="bottom",
                  clip_on=False)  # fmt: skip


def _draw_curve(axes: Axes, curve: torch.Tensor, top: float, layout: TokenLayout, sound: Sound, loud: bool) -> None:
    begin, step = layout.seconds[layout.sound]
    middles = begin + step * (np.arange(len(curve)) + 0.5)
    if loud:
        root = 10 ** (sound.loudness(step).numpy() / 20)
        axes.fill_between(step * (np.arange(len(root)) + 0.5), root / root.max(), color=LOUD, linewidth=0)
    axes.plot(middles, curve.numpy() / max(top, 1e-300), color=ACCENT, linewidth=0.7)
    for frame in outshining(curve).nonzero()[:, 0].tolist():
        early = middles[frame] < sound.seconds / 2
        share = f" {float(curve[frame] / curve.sum()):.0%} ".replace("%", " %")
        axes.text(middles[frame], 1.02, share, fontsize=SMALL - 1, color=ACCENT, va="top", weight="bold",
                  ha="left" if early else "right")  # fmt: skip
    axes.set(xlim=(0, sound.seconds), ylim=(0, 1.05), yticks=[])


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
