"""A model with what belongs to it: preprocessing, tokenizer, names of the tokens, a classifier."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, TokenRankWarning, printable
from ..html import panel, table
from ..layout import TokenLayout
from .images import ImageSource, read_image
from .layouts import expected_layout, text_layout
from .preprocess import ImageSettings
from .sound import Sound, SoundSettings, SoundSource, read_sound
from .speech import decoder_ids

Modality: TypeAlias = Literal["image", "text", "audio"]
Head: TypeAlias = Callable[[Any], Tensor]
"""What a module returned → logits (B, classes), differentiable."""


@dataclass(frozen=True, repr=False)
class Model:
    """A model ready to run; made by ``load``.

    Args:
        name: as given to ``load``.
        module: the network, in ``eval`` mode, float32, on the CPU.
        kind: what it reads, ``"image"``, ``"text"`` or ``"audio"``.
        images: how pictures are prepared; None for text and sound.
        tokenizer: the tokenizer of transformers, of what is read or, for speech, written; None for pictures.
        max_tokens: the longest text that it reads; None where there is no limit.
        head: what the module returned → logits (B, classes); None where there is no classifier.
        sounds: how sounds are prepared; None for pictures and text.
        commit: of the Hugging Face hub, of which its files are; None of what comes from elsewhere.
        pipeline: of diffusers, whose denoiser the module is; it reads pictures together with a prompt, by
            ``tr.observe(picture, model=…, prompt=…)``. None of all other models.
    """

    name: str
    module: nn.Module
    kind: Modality
    images: ImageSettings | None = None
    tokenizer: Any = None
    max_tokens: int | None = None
    head: Head | None = None
    sounds: SoundSettings | None = None
    commit: str | None = None
    pipeline: Any = None

    @property
    def attention(self) -> str:
        """Which implementation of attention runs: "sdpa", or "eager" where the model has no other."""
        return str(getattr(getattr(self.module, "config", None), "_attn_implementation", None) or "sdpa")

    def prepare(
        self,
        source: ImageSource | SoundSource | str,
        size: int | None = None,
        *,
        rate: int | None = None,
        part: tuple[float, float] | None = None,
        said: str | None = None,
    ) -> dict[str, Any]:
        """Inputs for ``module(**inputs)``, batch of one.

        Args:
            source: a picture (see ``read_image``), a text for a text model, a sound (see ``read_sound``).
            size: long side in pixels; the model's own where None. Pictures only.
            rate: samples a second of an array. Sounds only, as all that follows.
            part: (from, to) in seconds, where not all of the sound is meant.
            said: what is said in it, for a model that writes it down: its own transcript where None, which takes
                a run of the model; "" for none.

        Raises:
            InputError: a picture, text or sound that cannot be used, or an option of another kind of source.
        """
        if self.pipeline is not None:
            raise InputError(
                f"model {self.name!r} denoises pictures and needs a prompt and a noise level beside them: "
                "tr.observe(picture, model=…, prompt=…, noise=0.5)"
            )
        options = {"size": size, "rate": rate, "part": part, "said": said}
        known = {"image": ("size",), "text": (), "audio": ("rate", "part", "said")}[self.kind]
        for option, value in options.items():
            if value is not None and option not in known:
                raise InputError(
                    f"{option} = {value!r} for model {self.name!r}, which reads {self.kind}; leave {option} out"
                )
        if self.sounds is not None:
            return self._sound_inputs(self.sounds, read_sound(source, rate, part), said)  # type: ignore[arg-type]
        if self.images is not None:
            return self._picture_inputs(self.images, source, size)  # type: ignore[arg-type]
        return self._text_inputs(source)

    def forward(self, inputs: Mapping[str, Any]) -> Any:
        """Run the module without gradients; its own output comes back."""
        with torch.no_grad():
            return self.module(**inputs)

    def logits(self, inputs: Mapping[str, Any]) -> Tensor:
        """Run the module and its classifier: (B, classes). Gradients flow where they are enabled.

        Raises:
            InputError: the model was loaded without a classifier.
        """
        return self.classify(self.module(**inputs))

    def classify(self, output: Any) -> Tensor:
        """Logits (B, classes) from what the module returned.

        Raises:
            InputError: the model has no classifier, or one that does not fit what the module returns.
        """
        if self.head is None:
            raise InputError(
                f"model {self.name!r} has no classifier; load one with tr.load(name, head=True), or say what turns the "
                "output of your own module into logits (B, classes): tr.observe(tr.Model('mine', module, 'image', "
                "head=lambda output: output.logits), inputs=…)"
            )
        cure = "head= is a function of the module's output that returns a tensor (B, classes)"
        try:
            logits = self.head(output)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise InputError(
                f"the head of model {self.name!r} does not fit what the module returned, {_kind(output)}: "
                f"{type(error).__name__}: {error}; {cure}"
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.shape[-1]:
            raise InputError(f"the head of model {self.name!r} returned {_kind(logits)}; {cure}")
        return logits

    def layout_for(self, inputs: Mapping[str, Any]) -> TokenLayout | None:
        """Which token is what, for inputs from ``prepare``.

        Text: one span ``text`` with the tokenizer's strings, word marks (``##``, ``Ġ``, ``▁``) as they are, and
        the places of its special tokens, as ``capture`` has them. Pictures: what size and parameters say; None
        where they do not. Sounds: None, since each tower has tokens of its own; ``capture`` finds them.
        """
        if self.sounds is not None or self.pipeline is not None:
            return None
        if self.tokenizer is None:
            return expected_layout(self.module, inputs)
        return text_layout(self.tokenizer, inputs["input_ids"])

    def __repr__(self) -> str:
        return f"Model({printable(self.name)}, {self.kind}, {self._size()}, {self._precision()})"

    def _repr_html_(self) -> str:
        rows = [("reads", str(self.kind)), ("weights", f"{self._size()}, {self._precision()}"),
                ("attention", self.attention)]  # fmt: skip
        if (images := self.images) is not None:
            (height, width), (tall, wide) = images.native, images.patch
            fixed = "no other size" if images.fixed else "other sizes, too"
            rows.append(("pictures", f"{height} × {width} pixels ({fixed}), patches of {tall} × {wide}"))
            # shapes alone say which token is what
            shape = (1, len(images.mean), height, width)
            layout = expected_layout(self.module, {"pixel_values": torch.empty(shape, device="meta")})
            rows.append(("tokens", "not known before a run" if layout is None else f"{layout}"))
        if self.pipeline is not None:
            rows.append(("pipeline", type(self.pipeline).__name__))
        if self.tokenizer is not None:
            most = "no limit" if self.max_tokens is None else f"at most {self.max_tokens:,} tokens"
            rows.append(("text", f"{type(self.tokenizer).__name__}, {most}"))
        if (sounds := self.sounds) is not None:
            limit = "of any length" if sounds.longest is None else f"of {sounds.longest:g} s at most"
            rows.append(("sounds", f"{sounds.rate:,} samples a second, {limit}"))
        rows.append(("classifier", "none" if self.head is None else "yes"))
        return panel(f"Model {self.name}", table(rows))

    def _size(self) -> str:
        count = sum(parameter.numel() for parameter in self.module.parameters())
        return f"{count / 1e6:.1f} M parameters" if count >= 1e5 else f"{count:,} parameters"

    def _precision(self) -> str:
        first = next(self.module.parameters(), None)
        return "no weights" if first is None else f"{str(first.dtype).removeprefix('torch.')} on {first.device}"

    def _picture_inputs(self, images: ImageSettings, source: ImageSource, size: int | None) -> dict[str, Any]:
        pixels = images.pixels(read_image(source), size)
        parameters = inspect.signature(self.module.forward).parameters
        name = "pixel_values" if "pixel_values" in parameters else next(iter(parameters))
        inputs: dict[str, Any] = {name: pixels}
        if "interpolate_pos_encoding" in parameters and tuple(pixels.shape[-2:]) != images.native:
            inputs["interpolate_pos_encoding"] = True
        if "noise" in parameters:  # a masked autoencoder sorts its patches by it: rising keeps them in place
            count = (pixels.shape[-2] // images.patch[0]) * (pixels.shape[-1] // images.patch[1])
            inputs["noise"] = torch.arange(count)[None]
        return inputs

    def _sound_inputs(self, sounds: SoundSettings, sound: Sound, said: str | None) -> dict[str, Any]:
        known = inspect.signature(self.module.forward).parameters
        inputs = {k: v for k, v in sounds.inputs(sound, self.name).items() if k in known}
        if "decoder_input_ids" in known and self.tokenizer is not None:
            return inputs | {"decoder_input_ids": decoder_ids(self.module, self.tokenizer, inputs, said, self.name)}
        if said is not None:
            raise InputError(f"said = {said!r} for model {self.name!r}, which writes no text; leave said out")
        return inputs

    def _text_inputs(self, text: Any) -> dict[str, Any]:
        if not isinstance(text, str):
            raise InputError(f"model {self.name!r} reads one text (str), not {type(text).__name__}")
        if not text.strip():
            raise InputError("the text is empty; give one word at least")
        try:
            encoded = self.tokenizer(text, return_tensors="pt", verbose=False)
        except (UnicodeError, TypeError, ValueError) as error:
            raise InputError(f"the text cannot be tokenized: {error}; is it valid Unicode?") from error
        count = int(encoded["input_ids"].shape[-1])
        if not count:
            raise InputError(f"the text has no token that model {self.name!r} knows; give another text")
        if self.max_tokens is not None and count > self.max_tokens:
            raise InputError(
                f"the text has {count:,} tokens, model {self.name!r} reads {self.max_tokens:,} at most; shorten it"
            )
        self._warn_if_unknown(encoded["input_ids"])
        known = inspect.signature(self.module.forward).parameters
        return {k: v for k, v in encoded.items() if k in known and isinstance(v, Tensor)}

    def _warn_if_unknown(self, ids: Tensor) -> None:
        """Warn of a text most of which the model cannot read: all that it knows of such tokens is their places."""
        special = text_layout(self.tokenizer, ids).special
        words = [i for place, i in enumerate(ids.flatten().tolist()) if place not in special]
        unknown = words.count(getattr(self.tokenizer, "unk_token_id", None))
        if 2 * unknown > len(words):
            warnings.warn(
                f"{unknown} of {len(words)} tokens of the text are unknown to model {self.name!r}, which cannot tell "
                "them apart; name a model that reads this script: model=…, or --model of a command",
                TokenRankWarning,
                stacklevel=5,
            )


def own_logits(output: Any) -> Tensor:
    """The logits of a classifier of transformers, or of timm, which returns them bare."""
    return output if isinstance(output, Tensor) else output.logits


def bundled_head(folder: Path) -> Head:
    """The linear classifier on CLS that comes with the bundled model: 200 classes of Tiny-ImageNet."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "heads.safetensors")
    return partial(_linear_on_cls, weight=tensors["cls.weight"].float(), bias=tensors["cls.bias"].float())


def _linear_on_cls(output: Any, weight: Tensor, bias: Tensor) -> Tensor:
    state = output.last_hidden_state[:, 0]
    return F.linear(state, weight.to(state), bias.to(state))


def _kind(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(repr, value))}"
    return "nothing" if value is None else f"a {type(value).__name__}"
