"""How cases of transformers are built, and how its own weights are asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from .case import Case, NotAccepted

Build = Callable[[Any, str], nn.Module]  # (transformers, attention implementation) → model
Inputs = Callable[[], dict[str, Any]]
Own = Callable[[nn.Module, dict[str, Any]], list[Tensor]]

IMPLEMENTATIONS = {"eager": "eager", "sdpa": "sdpa", "flex": "flex_attention"}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
IMAGE = {**SIZES, "image_size": 32, "patch_size": 8}
TEXT = {**SIZES, "vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def cases(
    target: str,
    model: str | Callable[[Any, Any], nn.Module],
    config: Callable[[Any], Any],
    inputs: Inputs,
    own: Own | None,
    *,
    suffix: str = "",
    kinds: dict[str, tuple[str, ...]] | None = None,
    variants: tuple[str, ...] = ("eager", "sdpa", "flex"),
    std: float = 0.3,
    fails: tuple[str, ...] = (),
    **more: Any,
) -> list[Case]:
    """One case an attention implementation.

    Args:
        model: class name, or a function of transformers and the config.
        config: makes a config of transformers.
        kinds: of variants in which they are not those of the implementation's name.
        suffix: after the implementation in the variant: ", padded".
        std: of all weight matrices; initial ones are so small that attention would be even.
        fails: variants that transformers accepts and then cannot run on a CPU.
    """
    found = []
    for variant in variants:

        def build(variant: str = variant) -> nn.Module:
            import transformers

            built = attending(transformers, model, config(transformers), IMPLEMENTATIONS[variant], std)
            if variant in fails:
                _refuse(built, inputs())
            return built

        expected = (kinds or {}).get(variant, (variant,))
        found.append(Case("transformers", target, variant + suffix, build, inputs, expected, own, **more))
    return found


def attending(
    transformers: Any, model: str | Callable[[Any, Any], nn.Module], config: Any, implementation: str, std: float
) -> nn.Module:
    """A model in evaluation with large weights and the attention that was asked for.

    Raises:
        NotAccepted: transformers refuses that attention.
    """
    config._attn_implementation = implementation
    try:
        built = getattr(transformers, model)(config) if isinstance(model, str) else model(transformers, config)
    except (ValueError, NotImplementedError) as refusal:
        if implementation == "eager":
            raise
        words = " ".join(str(refusal).split()).split(". ")[0]
        raise NotAccepted(f"not accepted by transformers: {words}") from refusal
    return peaky(built, std)


def _refuse(model: nn.Module, inputs: dict[str, Any]) -> None:
    with pytest.raises(Exception) as failure, torch.no_grad(), torch.compiler.set_stance("force_eager"):  # noqa: PT011
        model(**inputs)
    words = str(failure.value).strip().splitlines()[0]
    raise NotAccepted(f"transformers cannot run it on a CPU: {words}")


def peaky(model: nn.Module, std: float = 0.3) -> nn.Module:
    """Weights so large that attention is far from even: mistakes show."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=std, generator=generator)
    return model.eval()


def twin(model: nn.Module) -> nn.Module:
    """The same model with the attention that reports its weights."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    eager = type(model)(config)
    eager.load_state_dict(model.state_dict())
    return eager.eval()


def reported(*names: str, **arguments: Any) -> Own:
    """Weights in the output's fields of these names, one after the other."""

    def own(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
        out = twin(model)(**inputs, output_attentions=True, **arguments)
        return [weights for name in names for weights in getattr(out, name)]

    return own


def encoder_decoder(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """Weights of an encoder, then of the decoder's layers, each with its cross-attention."""
    out = twin(model)(**inputs, output_attentions=True)
    decoder = [w for pair in zip(out.decoder_attentions, out.cross_attentions, strict=True) for w in pair]
    return [*out.encoder_attentions, *decoder]


def heard(select: Callable[[str, nn.Module], bool], place: int = 1) -> Own:
    """Weights that modules return, for models that do not hand them on."""

    def own(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
        eager, found = twin(model), []
        hooks = [
            module.register_forward_hook(lambda _, __, out: found.append(out[place]))
            for name, module in eager.named_modules()
            if select(name, module)
        ]
        eager(**inputs)
        for hook in hooks:
            hook.remove()
        return found

    return own


class CachedStep(nn.Module):
    """A prompt, and one token more with the keys of the prompt from the cache."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Any) -> list[Any]:
        """Outputs of both calls."""
        head = None if attention_mask is None else attention_mask[:, :-1]
        prompt = self.model(input_ids[:, :-1], attention_mask=head, use_cache=True, **more)
        cache = prompt.past_key_values
        step = self.model(input_ids[:, -1:], attention_mask=attention_mask, past_key_values=cache, **more)
        return [prompt, step]


def cached_attentions(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """Weights of both calls of a ``CachedStep``."""
    outputs = CachedStep(twin(model.model))(**inputs, output_attentions=True)
    return [weights for out in outputs for weights in out.attentions]


def pixels(*shape: int, name: str = "pixel_values", **more: Any) -> Inputs:
    """Random pictures, (2, 3, 32, 32) by default."""
    return lambda: {name: torch.randn(shape or (2, 3, 32, 32)), **more}


def words(padding: str | None = None, length: int = 9, batch: int = 2, mask: bool = True, **more: Any) -> Inputs:
    """Random token numbers; the second text is shorter where there is ``padding`` at the "left" or "right"."""

    def inputs() -> dict[str, Any]:
        ids = torch.randint(3, 60, (batch, length))
        allowed = torch.ones_like(ids)
        if padding == "right":
            allowed[1, 6:] = 0
        elif padding == "left":
            allowed[1, :3] = 0
        return {"input_ids": ids, **({"attention_mask": allowed} if mask else {}), **more}

    return inputs
