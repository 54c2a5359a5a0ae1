"""Models of transformers, from a folder or the hub."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError, first_line, printable
from .load_errors import explained, is_unreachable
from .model import Modality, Model, own_logits
from .packed import FILE, read_packed
from .preprocess import native_size, patch_size, settings_from_processor
from .sound import SoundSettings

_OPEN = "prepare its inputs yourself and use tr.capture(model)"
_SOUNDS = ("input_features", "input_values")


@dataclass(frozen=True)
class Source:
    """Where the files of a model are.

    Args:
        place: a folder, or "owner/name" on the hub.
        revision: commit, tag or branch there; its main branch where None.
    """

    place: str | Path
    revision: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a folder."""
        return isinstance(self.place, Path)

    @property
    def options(self) -> dict[str, Any]:
        """What every call of transformers is told."""
        # where code is left open, transformers asks on the terminal, and "y" runs what came with a model
        return {"trust_remote_code": False} | ({} if self.revision is None else {"revision": self.revision})

    def commit(self) -> str | None:
        """The commit of the hub that the files are of, once they are on this machine; None of a folder."""
        if isinstance(self.place, Path):
            return None
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.place, "config.json", revision=self.revision)
        return Path(path).parent.name if isinstance(path, str) else None


def load_transformers(
    name: str, source: Source, size: int | None, kind: Modality | None, attention: str, head: bool = False
) -> Model:
    """Load ``source``, called ``name`` in messages; see ``load``."""
    with explained(name), quiet(local=source.is_local):
        module, kind = _reader(_network(source, attention, name, head), kind, name)
        if kind == "audio":
            model = _sound_model(name, module, source, size)
        elif kind == "text":
            model = _text_model(name, module, source)
        else:
            model = _image_model(name, module, source, size)
            model = replace(model, head=own_logits) if head else model
        return replace(model, commit=source.commit())


def _network(source: Source, attention: str, name: str, head: bool) -> Any:
    from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, AutoModelForSpeechSeq2Seq
    from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES

    config = AutoConfig.from_pretrained(source.place, **source.options)
    written = config.model_type in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES
    # speech is written down by the whole network: a transcript is where words in its sound come from
    family = AutoModelForSpeechSeq2Seq if written else AutoModelForImageClassification if head else AutoModel

    def read(implementation: str) -> tuple[Any, dict[str, Any]]:
        if isinstance(source.place, Path) and (source.place / FILE).is_file():
            return _unpacked(family, source.place, implementation)
        pair = family.from_pretrained(
            source.place,
            dtype=torch.float32,
            attn_implementation=implementation,
            output_loading_info=True,
            **source.options,
        )
        return pair[0], pair[1]

    try:
        network, info = read(attention)
    except (ValueError, ImportError) as refusal:
        if attention == "eager" or not _refuses_attention(refusal):
            raise
        network, info = read("eager")
    # A pooler after the last layer, or the token of a training objective, changes no attention.
    missing = sorted(k for k in info["missing_keys"] if "pooler" not in k and "mask_token" not in k)
    if missing:
        raise InputError(
            f"the weights of model {printable(name)} lack {len(missing)} tensors, such as {missing[0]}, which would "
            "be random; check that the weights belong to config.json"
        )
    for key, tensor in network.named_parameters():
        if key in info["missing_keys"]:  # random otherwise, so that the weights would differ from load to load
            tensor.data.zero_()
    return network.to(torch.float32).eval()


def _unpacked(family: Any, folder: Path, implementation: str) -> tuple[Any, dict[str, Any]]:
    """The network that config.json describes, with weights of few bits read into float32; and what they lack."""
    from transformers import AutoConfig

    tensors = read_packed(folder / FILE)
    config = AutoConfig.from_pretrained(folder, **Source(folder).options)
    network = family.from_config(config, attn_implementation=implementation)
    for name, tensor in network.state_dict().items():
        if name in tensors and tensors[name].shape != tensor.shape:
            found, expected = tuple(tensors[name].shape), tuple(tensor.shape)
            raise InputError(
                f"{printable(folder / FILE)} does not belong to its config.json: {name} is {found}, expected "
                f"{expected}; copy both anew (the package's: pip install --force-reinstall --no-deps tokenrank)"
            )
    return network, {"missing_keys": network.load_state_dict(tensors, strict=False).missing_keys}


def _refuses_attention(error: BaseException) -> bool:
    text = str(error)
    return "scaled_dot_product_attention" in text or "attn_implementation" in text


def _reader(network: Any, kind: Modality | None, name: str) -> tuple[nn.Module, Modality]:
    """The part of ``network`` that reads pictures, text or sounds, and which of them it reads."""
    config = network.config
    inputs = inspect.signature(network.forward).parameters
    sees, reads = "pixel_values" in inputs, "input_ids" in inputs
    hears = not (sees or reads) and not inputs.keys().isdisjoint(_SOUNDS)
    if sees and reads:
        tower = getattr(network, "text_model" if kind == "text" else "vision_model", None)
        # Contrastive models run their halves apart; what has both and no such scale feeds one to the other.
        if not isinstance(tower, nn.Module) or "logit_scale" not in dict(network.named_parameters()):
            raise InputError(f"model {printable(name)} reads pictures and text together; {_OPEN}")
        network, modality = tower, kind or "image"
    elif reads:
        encoder = network.get_encoder() if getattr(config, "is_encoder_decoder", False) else network
        network, modality = encoder, "text"
    elif sees or hears:
        modality = "image" if sees else "audio"
    else:
        main = getattr(network, "main_input_name", "something else")
        raise InputError(f"model {printable(name)} reads {main}, neither pictures nor text nor sounds; {_OPEN}")
    if kind not in (None, modality):
        raise InputError(f"model {printable(name)} reads {modality}, but kind={kind!r} was asked; leave kind out")
    return network, modality


def _image_model(name: str, module: nn.Module, source: Source, size: int | None) -> Model:
    parameters = inspect.signature(module.forward).parameters
    if hasattr(module.config, "mask_ratio") and "noise" in parameters:
        module.config.mask_ratio = 0.0  # a masked autoencoder shows all patches, as after its training
    if "spatial_shapes" in parameters or hasattr(module.config, "num_frames"):
        raise InputError(f"model {printable(name)} reads packed patches or video, not a picture; {_OPEN}")
    settings = settings_from_processor(
        _processor(name, source),
        patch=patch_size(module),
        native=native_size(module),
        fixed=_is_fixed(module),
        channels=int(getattr(module.config, "num_channels", 3)),
    )
    return Model(name, module, "image", settings if size is None else settings.resized(size))


def _processor(name: str, source: Source) -> dict[str, Any]:
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        # Only its dictionary: the classes themselves may need torchvision.
        return dict(ImageProcessingMixin.get_image_processor_dict(source.place, **source.options)[0])
    except OSError as error:
        if is_unreachable(error) and not source.is_local:
            raise
        raise InputError(
            f"model {printable(name)} has no preprocessor_config.json, so size, mean and standard deviation of its "
            f"pictures are unknown; save one with its image processor, or {_OPEN}"
        ) from error


def _is_fixed(module: nn.Module) -> bool:
    """True where positions are learned for one size and nothing resizes them."""
    if "interpolate_pos_encoding" in inspect.signature(module.forward).parameters:
        return False
    learned = False
    for part in module.modules():
        if hasattr(part, "interpolate_pos_encoding"):
            return False
        learned |= any(hasattr(part, n) for n in ("position_embeddings", "position_embedding", "pos_embed"))
    return learned


def _sound_model(name: str, module: nn.Module, source: Source, size: int | None) -> Model:
    from transformers import AutoFeatureExtractor

    if size is not None:
        raise InputError(f"size = {size} for model {printable(name)}, which reads sounds; leave size out")
    try:
        extractor = AutoFeatureExtractor.from_pretrained(source.place, **source.options)
        settings = SoundSettings.of_extractor(extractor)
    except (OSError, ValueError, AttributeError) as error:
        if "trust_remote_code" in str(error) or (is_unreachable(error) and not source.is_local):
            raise
        raise InputError(
            f"model {printable(name)} has no feature extractor of sounds that can be used ({first_line(error)}); save "
            f"one beside its weights with feature_extractor.save_pretrained, or {_OPEN}"
        ) from error
    tokenizer = (
        _tokenizer(name, source) if "decoder_input_ids" in inspect.signature(module.forward).parameters else None
    )
    return Model(name, module, "audio", tokenizer=tokenizer, sounds=settings)


def _text_model(name: str, module: nn.Module, source: Source) -> Model:
    tokenizer = _tokenizer(name, source)
    limits = (getattr(tokenizer, "model_max_length", None), _positions(module))
    longest = min((n for n in limits if isinstance(n, int) and 0 < n < 10**9), default=None)
    return Model(name, module, "text", tokenizer=tokenizer, max_tokens=longest)


def _tokenizer(name: str, source: Source) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.place, **source.options)
        # Where files are missing, recent versions make an empty tokenizer of special tokens alone.
        problem = "" if set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens) else "it knows no word"
    except Exception as error:
        if is_unreachable(error) or "trust_remote_code" in str(error):
            raise
        problem = first_line(error)
    if problem:
        raise InputError(
            f"model {printable(name)} has no tokenizer that can be used ({problem}); "
            "save one beside its weights with tokenizer.save_pretrained"
        )
    return tokenizer


def _positions(module: nn.Module) -> int | None:
    positions = getattr(module.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    # RoBERTa and its kin start counting positions after the padding token's id.
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding) and part.padding_idx is not None:
            return positions - part.padding_idx - 1
    return positions


@contextlib.contextmanager
def quiet(local: bool) -> Iterator[None]:
    """No loading reports and retry messages; progress bars for downloads only."""
    from transformers.utils import logging as reports

    hub, level, bars = logging.getLogger("huggingface_hub"), reports.get_verbosity(), reports.is_progress_bar_enabled()
    hub_level = hub.level
    reports.set_verbosity_error()
    hub.setLevel(logging.ERROR)
    if local:
        reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        hub.setLevel(hub_level)
        if local and bars:
            reports.enable_progress_bar()
