"""``tokenrank segment --words``: pictures divided by words, with a denoiser that is told them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import printable
from .batch import Say, each
from .labels import Labelling
from .output import maker
from .pictures import picture_of
from .report import MisuseError, print_path
from .sources import Source

if TYPE_CHECKING:
    from ..observation import Observation

MOST_WORDS = 12
BOUNCES = (1, 2, 3)
"""Of the figure, for three layers each: the first, the middle and the last."""


def words_of(text: str) -> list[str]:
    """What ``--words`` means: words or phrases with commas between them.

    Raises:
        MisuseError: an empty one, one twice, or too many.
    """
    words = [" ".join(word.split()) for word in text.split(",")]
    if not all(words) or len(set(words)) < len(words) or len(words) > MOST_WORDS:
        raise MisuseError(
            f"words = {printable(text)}, expected 1 to {MOST_WORDS} different words or phrases with commas between: "
            "cat,red sofa"
        )
    return words


class WordLabelling(Labelling):
    """Pictures whose pixels get words; see ``Labelling``.

    Args:
        paths, model, size, out, formats, overwrite: as typed.
    """

    def __init__(
        self, paths: Sequence[str], model: str, size: str | None, out: Path, formats: str, overwrite: bool
    ) -> None:
        if model == "bundled":
            raise MisuseError(
                "--words needs a pipeline that draws what it is told, and the bundled model draws nothing; name one: "
                "--model FOLDER"
            )
        super().__init__("segment", paths, model, size, out, formats, overwrite, more=("words.png",))

    def divide(self, words: Sequence[str], prompt: str, noise: float, options: dict[str, Any]) -> None:
        """Divide every picture by words, and write.

        Args:
            words, prompt, noise: of the pass of the denoiser.
            options: of ``concept_maps``.
        """

        def work(source: Source, say: Say) -> None:
            say("reading")
            picture = picture_of(source)
            say("loading the model")
            model = self._model()
            from ..reading import observe
            from ..tasks import segment

            say("running the model")
            observation = observe(picture, model, prompt=prompt, noise=noise, size=self.size)
            found = segment(observation, words=list(words), **options)
            say("drawing")
            assert source.digest is not None
            drawn = _figure(observation, words, options, maker(source.digest))
            say("writing")
            self._write(found, source)
            print_path(self.out.write(f"{source.stem}-segment-words.png", drawn))

        each(self.sources, "picture", self.out, work)


def _figure(observation: Observation, words: Sequence[str], options: dict[str, Any], by: str) -> bytes:
    """Words × layers × bounces."""
    from ..observation import Denoised
    from ..tasks import concept_maps
    from ..view import concepts_figure, render

    assert isinstance(observation, Denoised)
    blocks = observation.blocks
    chosen = sorted({0, (len(blocks) - 1) // 2, len(blocks) - 1})
    kept = {name: value for name, value in options.items() if name in ("heads", "direction") and value is not None}
    columns = {
        f"layer {place}\nn = {n}": concept_maps(observation, list(words), layers=blocks[place], n=n, **kept)
        for place in chosen
        for n in BOUNCES
    }
    caption = f"{observation.name}, prompt: {observation.prompt}; " + ", ".join(
        f"layer {place}: {blocks[place]}" for place in chosen
    )
    return render(concepts_figure(columns, caption), "png", by)
