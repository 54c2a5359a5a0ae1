"""Class activation maps of the package pytorch-grad-cam, on the states of tokens."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from ..chain import TokenMap
from ..errors import CaptureError, InputError, NotFoundError, nearest, require
from ..observation import Observation
from ..reading import Reading, Source, observe
from .gradients import chosen_class
from .registry import register

CamMethod: TypeAlias = Literal["grad_cam", "grad_cam++", "layer_cam", "eigen_cam", "score_cam", "ablation_cam"]

CAM_METHODS: Mapping[str, str] = {
    "grad_cam": "GradCAM",
    "grad_cam++": "GradCAMPlusPlus",
    "layer_cam": "LayerCAM",
    "eigen_cam": "EigenCAM",
    "score_cam": "ScoreCAM",
    "ablation_cam": "AblationCAM",
}
"""Name of a method → its class in the package."""


@register("pytorch_grad_cam", needs=("class", "gradients"))
def pytorch_grad_cam(
    source: Source,
    *,
    target: int | None = None,
    method: CamMethod = "grad_cam",
    target_layer: str | None = None,
    batch_size: int = 16,
    **reading: Unpack[Reading],
) -> TokenMap:
    """A class activation map from the patches' states in one layer, channels weighed as the method says.

    Grad-CAM (Selvaraju et al., ICCV 2017), Grad-CAM++ (Chattopadhay et al., WACV 2018), Layer-CAM (Jiang et al., TIP
    2021), Eigen-CAM (Muhammad and Yeasin, IJCNN 2020; no class), Score-CAM (Wang et al., CVPRW 2020) and Ablation-CAM
    (Ramaswamy, WACV 2020), as the package computes them. Tokens that are no patches are dropped, so that CLS needs no
    special case. Values from 0 to 1: negative ones set to 0, then scaled by minimum and maximum, as the package does.

    Score-CAM and Ablation-CAM run the model once for each channel of the layer.

    Args:
        source, reading: see ``tr.observe``; a classifier of pictures.
        target: index of the class; the predicted one where None. Eigen-CAM ignores it.
        method: which of the methods above.
        target_layer: name of a module that returns the states of all tokens, (B, N, channels); the first
            normalisation of the last block where None.
        batch_size: pictures at a time, for Score-CAM and Ablation-CAM.

    Raises:
        InputError: no such method or class, the model has no classifier, or attention was captured before.
        NotFoundError: no such module.
        CaptureError: the module does not return the states of all tokens, or the class does not depend on those of
            the patches, as after the last attention of a model that reads CLS.
        MissingExtraError: the package is not installed.
    """
    if method not in CAM_METHODS:
        raise InputError(f"method = {method!r}, expected one of {', '.join(CAM_METHODS)}")
    package = require("pytorch_grad_cam", "evaluate")
    observation = observe(source, **reading)
    index = chosen_class(observation, target)
    module = observation.model.module
    layer = last_norm(observation) if target_layer is None else _module(module, target_layer)
    name, pixels = _pixels(observation.inputs)
    rows, columns = observation.grid
    with _undisturbed(module), torch.enable_grad(), redirect_stderr(io.StringIO()):  # it draws progress bars
        options = {"ablation_layer": package.ablation_layer.AblationLayerVit()} if method == "ablation_cam" else {}
        cam = getattr(package, CAM_METHODS[method])(
            _Logits(observation, name),
            [layer],
            reshape_transform=lambda states: _on_grid(observation, states),
            **options,
        )
        cam.batch_size = batch_size
        cam.get_target_width_height = lambda _: (columns, rows)  # one value a patch, not a pixel
        compute = cam.compute_cam_per_layer
        cam.compute_cam_per_layer = lambda *given: compute(*_with_gradients(cam, index, given))
        try:
            values = cam(pixels.detach().clone().requires_grad_(), [_Score(index)])[0]
        finally:
            cam.activations_and_grads.release()
    return observation.map(torch.from_numpy(values).flatten())


def last_norm(observation: Observation) -> nn.Module:
    """The last normalisation of all tokens before the last layer's attention: the first norm of the last block.

    Later ones are no use where the answer is read from CLS: it no longer depends on the patches there.

    Of a layer that shares its module with others ("name#3") the last call counts.

    Raises:
        CaptureError: there is none.
    """
    root, (last, _, call) = observation.model.module, observation.layers[-1].partition("#")
    tokens = observation.layout.num_tokens
    before: list[nn.Module] = []
    reached: list[bool] = []

    def passed(module: nn.Module, args: Any, out: Any) -> None:
        if len(reached) < int(call or 1) and isinstance(out, Tensor) and out.ndim == 3 and out.shape[1] == tokens:
            before.append(module)

    with ExitStack() as stack:
        for module in root.modules():
            if "norm" in type(module).__name__.lower():
                stack.callback(module.register_forward_hook(passed).remove)
        attention = root.get_submodule(last)
        stack.callback(attention.register_forward_pre_hook(lambda *_: reached.append(True)).remove)
        observation.model.forward(observation.inputs)
    if not before:
        raise CaptureError(
            f"no normalisation of all {tokens} tokens runs before the attention {last!r}; name a layer: "
            "target_layer='blocks.11.norm1'"
        )
    return before[-1]


class _Logits(nn.Module):
    """What the package calls: pixels → logits."""

    def __init__(self, observation: Observation, name: str) -> None:
        super().__init__()
        self.module = observation.model.module
        self.run = lambda pixels: observation.model.logits({**observation.inputs, name: pixels})

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, classes)."""
        return self.run(pixels)


class _Score:
    """What the package explains: one logit."""

    def __init__(self, index: int) -> None:
        self._index = index

    def __call__(self, logits: Tensor) -> Tensor:
        return logits[..., self._index]


def _on_grid(observation: Observation, states: Any) -> Tensor:
    """(B, N, channels) → the patches alone, (B, channels, rows, columns)."""
    count = observation.layout.num_tokens
    if not isinstance(states, Tensor) or states.ndim != 3 or states.shape[1] != count:
        found = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise CaptureError(
            f"the target layer returns {found}, expected the states of all {count} tokens, (B, {count}, channels); "
            "name another target_layer"
        )
    patches = observation.patches
    return states[:, patches.start : patches.stop].transpose(1, 2).unflatten(2, observation.grid)


def _with_gradients(cam: Any, target: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """``given`` as it is, after a look at the gradients that the method is about to use."""
    gradients = cam.activations_and_grads.gradients
    if cam.uses_gradients and not any(bool(g.any()) for g in gradients):
        raise CaptureError(
            f"class {target} does not depend on the patches' states in the target layer; name an earlier target_layer, "
            "or leave it out"
        )
    return given


def _module(root: nn.Module, name: str) -> nn.Module:
    modules = dict(root.named_modules())
    if name not in modules:
        raise NotFoundError(f"no module {name!r} for target_layer; {nearest(name, modules)}")
    return modules[name]


def _pixels(inputs: Mapping[str, Any]) -> tuple[str, Tensor]:
    pictures = {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.is_floating_point() and v.ndim == 4}
    if len(pictures) != 1:
        raise InputError(f"inputs {list(inputs)} hold {len(pictures)} pictures (B, channels, H, W), expected one")
    return next(iter(pictures.items()))


@contextmanager
def _undisturbed(root: nn.Module) -> Iterator[None]:
    """Put back what the package changes in a module: gradients, and children that Ablation-CAM swaps."""
    gradients = [(p, p.grad) for p in root.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    children = [(m, dict(m._modules)) for m in root.modules()]
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, was in children:
            module._modules.update(was)
