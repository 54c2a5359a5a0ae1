"""The object of a picture by its name: concept maps of a denoiser on a real picture with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...chain import TokenMap
from ...errors import InputError
from ...models import Model
from ...observation import Denoised
from ...reading import observe
from ..clock import spent_on
from ..datasets.sample import Sample
from .concept_methods import ConceptMethod, parse_concepts
from .imagenet_segmentation import ImageNetSegmentation
from .observe import checked, forward, squeezed

BACKGROUND = ("background", "floor", "tree", "person", "grass", "face")
"""Words outside of the prompt that ConceptAttention compares an object with on ImageNet-Segmentation [V]."""
VOC_BACKGROUND = ("background", "floor", "grass", "tree", "sky")
"""The same on PASCAL VOC [V]."""


@dataclass(frozen=True)
class ConceptSegmentation(ImageNetSegmentation):
    """``ImageNetSegmentation`` with the word of the sample: picture and noise go to a denoiser with the prompt
    "a WORD", and the map of the word is measured.

    Methods are those of ``parse_concepts``. All see the same forward calls.

    Args:
        side, raw: see ``ImageNetSegmentation``.
        noise, samples: of ``tr.observe``; ConceptAttention has 0.5 and 5 samples [V].
        size: side in pixels of the square that the pipeline gets, aspect ratio not kept.
        prompt: with the word in place of ``{}``.
        background: words outside of the prompt, for methods with ``outside=yes`` or ``all``; a word that is the
            sample's is left out.
    """

    name: ClassVar[str] = "concept-segmentation"
    dataset_options: ClassVar[Mapping[str, Any]] = {"named": True}
    needs: ClassVar[tuple[str, ...]] = ("mask", "word")

    noise: float = 0.5
    samples: int = 5
    size: int = 1024
    prompt: str = "a {}"
    background: tuple[str, ...] = BACKGROUND

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt.count("{}") != 1:
            raise InputError(f"prompt = {self.prompt!r}, expected one {{}} in the place of the word")

    def methods(self, text: str) -> tuple[Any, ...]:
        """Methods of concept maps; see ``parse_concepts``."""
        return parse_concepts(text)

    def check_methods(self, methods: Sequence[Any]) -> None:
        """Raise ``InputError`` for methods of another kind."""
        for method in methods:
            if not isinstance(method, ConceptMethod):
                raise InputError(
                    f"method {getattr(method, 'name', method)!r} knows no words, expected one of concept maps: "
                    "parse_concepts('maps:n=2')"
                )

    def _maps(self, model: Model, sample: Sample, methods: Sequence[Any]) -> list[TokenMap]:
        assert sample.word is not None
        if model.pipeline is None:
            raise InputError(f"model {model.name!r} knows no words, expected a pipeline of diffusers: its folder")
        observation = observe(
            squeezed(sample.image, self.size), model=model, prompt=self.prompt.format(sample.word), noise=self.noise,
            samples=self.samples, size=self.size, seed=0,
        )  # fmt: skip
        assert isinstance(observation, Denoised)
        forward(observation)
        found = []
        for method in methods:
            with spent_on(method.name):
                found.append(checked(self._map(observation, method, sample.word), observation, method.name))
        return found

    def _map(self, observation: Denoised, method: ConceptMethod, word: str) -> TokenMap:
        if not method.outside:
            return method.run(observation, [word]).map(word)
        others = [other for other in self.background if other != word]
        added = [word, *others] if method.outside == "all" else others
        return method.run(observation.with_words(added), [word, *others]).map(word)


@dataclass(frozen=True)
class VocConcepts(ConceptSegmentation):
    """``ConceptSegmentation`` on the pictures of PASCAL VOC 2012 with one class; void pixels do not count."""

    name: ClassVar[str] = "voc-concepts"
    dataset: ClassVar[str] = "voc2012"
    dataset_options: ClassVar[Mapping[str, Any]] = {"single_class": True}

    background: tuple[str, ...] = VOC_BACKGROUND
