"""The experiments, by name. Every published number carries the mark of where it comes from; see ``experiment.Mark``."""

from __future__ import annotations

from ...errors import NotFoundError, nearest
from .denoisers import DENOISERS
from .experiment import Experiment, Figure, Gain, Mark, Order

_PAPER = "Attention (as Discrete-Time Markov) Chains, NeurIPS 2025, arXiv 2507.17657"
_ECSSD = "images and masks of Shi, Yan, Xu, Jia, ECSSD (1,000 pictures)"
_VIT = "google/vit-base-patch16-224"
_REGISTERS = "facebook/dinov2-with-registers-base"


def _row(method: str, accuracy: float, miou: float, average: float, mark: Mark) -> tuple[Figure, ...]:
    """A line of the ImageNet-Segmentation table, in percent."""
    columns = {"accuracy": accuracy, "miou": miou, "map": average}
    return tuple(Figure(method, column, value / 100, 0.02, mark) for column, value in columns.items())


_SEGMENTATION_VIT = Experiment(
    name="imagenet-segmentation/vit-b16",
    claim="The earlier explanation methods of the ImageNet-Segmentation table come out as published.",
    source="Chefer, Gur, Wolf (CVPR 2021), segmentation table; numbers [R], protocol [V]",
    models=(_VIT,),
    weights="ViT-B/16, 224 pixels, trained on ImageNet-21k and -1k, with its classifier",
    dataset="imagenet-segmentation",
    folder="imagenet-segmentation",
    origin="gtsegs_ijcv.mat of calvin-vision.net/bigstuff/proj-imagenet/data [V]",
    images=4276,
    protocol="imagenet-segmentation",
    methods=(
        "rollout:start_layer=1,cls_row,grad_cam,partial_lrp,transformer_attribution,generic_relevance,"
        "column_sum:heads=uniform,tokenrank:heads=uniform,tokenrank:heads=lambda2,random,centre_prior"
    ),
    expected=(
        *_row("rollout:start_layer=1", 73.54, 55.42, 84.76, "R"),
        *_row("cls_row", 67.84, 46.37, 80.24, "R"),
        *_row("grad_cam", 64.44, 40.82, 71.60, "R"),
        *_row("partial_lrp", 76.31, 57.94, 84.67, "R"),
        *_row("transformer_attribution", 79.70, 61.95, 86.03, "R"),
    ),
    head=True,
    notes="The number of pictures is a user's count; its file may differ. The published ViT is timm's copy of the "
    "weights; mean and standard deviation are the model's own, 0.5 here as there.",
)

_SEGMENTATION_DINO = Experiment(
    name="imagenet-segmentation/dinov2",
    claim="TokenRank finds the object better than one step of attention does: than the column sum and the row of CLS.",
    source=f"{_PAPER}, the comparison of first-order and stationary maps [S]; the paper's 84.12/70.20/94.29 [S] are "
    "FLUX's, so no number is expected here",
    models=(_REGISTERS,),
    weights="DINOv2 ViT-B/14 with registers",
    dataset="imagenet-segmentation",
    folder="imagenet-segmentation",
    origin=_SEGMENTATION_VIT.origin,
    images=4276,
    protocol="imagenet-segmentation",
    methods=(
        "tokenrank:heads=uniform,tokenrank:heads=lambda2,column_sum:heads=uniform,cls_row,"
        "cls_bounce:n=2:heads=uniform,rollout,random,centre_prior"
    ),
    expected=(
        Order("tokenrank:heads=uniform", "column_sum:heads=uniform", "miou", "S"),
        Order("tokenrank:heads=uniform", "cls_row", "miou", "S"),
    ),
)

_ECSSD_DINO = Experiment(
    name="ecssd/dino-s16",
    claim="TokenCut comes out as its authors print it, without and with its bilateral solver: the harness is sound.",
    source="Wang et al., TokenCut (CVPR 2022), ECSSD row of the authors' repository [V]",
    models=("facebook/dino-vits16",),
    weights="DINO ViT-S/16",
    dataset="ecssd",
    folder="ecssd",
    origin=_ECSSD,
    images=1000,
    protocol="saliency",
    options={"native": True, "posts": ("component", "refined", "solved")},
    methods=(
        "tokencut,lost,cls_row,dino_mass,column_sum:heads=uniform,tokenrank:heads=uniform,"
        "tokenrank:heads=lambda2,random,centre_prior"
    ),
    expected=(
        Figure("tokencut", "iou_component", 0.7120, 0.01, "V"),
        Figure("tokencut", "accuracy_component", 0.9178, 0.01, "V"),
        Figure("tokencut", "f_component", 0.8034, 0.01, "V"),
        Figure("tokencut", "iou_solved", 0.7720, 0.02, "V"),
        Figure("tokencut", "accuracy_solved", 0.9342, 0.01, "V"),
        Figure("tokencut", "max_f_solved", 0.8736, 0.02, "V"),
    ),
    notes="Positions are interpolated by transformers in place of DINO's code, and the solver is another "
    "implementation; another user of the original got 0.621 for IoU with the solver [V, issue 15].",
)

_MASKING = Experiment(
    name="masking/dinov2",
    claim="Tokens that TokenRank ranks first matter more: without them accuracy falls faster than with other rankings.",
    source=f"{_PAPER}, masking: AUC 0.26–0.64 against 0.27–0.79 [S]; ratios, models and masking are not published, so "
    "only the order is expected. Clean accuracy 84.6: DINOv2's table of linear heads [V]",
    models=(f"{_REGISTERS}-imagenet1k-1-layer",),
    weights="DINOv2 ViT-B/14 with registers and its linear ImageNet classifier",
    dataset="imagenet-folder",
    folder="imagenet",
    origin="ILSVRC 2012 validation, a folder a synset",
    images=50_000,
    protocol="masking",
    options={"how": ("keys", "remove"), "orders": ("most", "least")},
    methods="tokenrank:heads=uniform,tokenrank:heads=lambda2,column_sum:heads=uniform,cls_row,rollout,random",
    expected=(
        Figure("tokenrank:heads=uniform", "base", 0.846, 0.015, "V"),
        Order("tokenrank:heads=uniform", "column_sum:heads=uniform", "auc_keys_most", "S", higher=False),
        Order("tokenrank:heads=uniform", "cls_row", "auc_keys_most", "S", higher=False),
        Order("tokenrank:heads=uniform", "random", "auc_keys_most", "I", higher=False),
    ),
    head=True,
    notes="Every picture takes some 450 forwards: begin with --limit. The picture is squeezed to a square, where "
    "the published accuracy is for the central crop.",
)

_LAMBDA2 = Experiment(
    name="lambda2-weighting",
    claim="Heads weighted by |λ2| give better maps than heads weighted alike.",
    source=f"{_PAPER}, test E.1: modest and statistically significant [S]; its details are not published, here a "
    "paired Wilcoxon test over images [I]",
    models=(_REGISTERS,),
    weights="DINOv2 ViT-B/14 with registers",
    dataset="ecssd",
    folder="ecssd",
    origin=_ECSSD,
    images=1000,
    protocol="seed",
    methods="bounce:n=2:heads=lambda2,bounce:n=2:heads=uniform,tokenrank:heads=lambda2,tokenrank:heads=uniform",
    expected=(
        Order("bounce:n=2:heads=lambda2", "bounce:n=2:heads=uniform", "iou", "S"),
        Order("tokenrank:heads=lambda2", "tokenrank:heads=uniform", "iou", "S"),
    ),
)

_STEPS = tuple(f"bounce:n={n}:heads=uniform" for n in range(1, 6))

_BOUNCES = Experiment(
    name="bounces",
    claim="Two bounces from a point on the object segment it best.",
    source=f"{_PAPER}, notes page [S]",
    models=(_REGISTERS,),
    weights="DINOv2 ViT-B/14 with registers",
    dataset="ecssd",
    folder="ecssd",
    origin=_ECSSD,
    images=1000,
    protocol="seed",
    methods=",".join((*_STEPS, "tokenrank:heads=uniform")),
    expected=tuple(
        Order(_STEPS[1], other, "iou", "S") for other in (_STEPS[0], *_STEPS[2:], "tokenrank:heads=uniform")
    ),
)

_STRUCTURE = Experiment(
    name="structure",
    claim="The second bounce gains more in DINOv2 with registers than in a plain ViT.",
    source=f"{_PAPER}, notes page [S]",
    models=(_REGISTERS, _VIT),
    weights="DINOv2 ViT-B/14 with registers, and the supervised ViT-B/16",
    dataset="ecssd",
    folder="ecssd",
    origin=_ECSSD,
    images=1000,
    protocol="seed",
    methods="raw_row:heads=uniform,bounce:n=2:heads=uniform,column_sum:heads=uniform,tokenrank:heads=uniform,random",
    expected=(Gain("bounce:n=2:heads=uniform", "raw_row:heads=uniform", "iou", "S"),),
)

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        _SEGMENTATION_VIT,
        _SEGMENTATION_DINO,
        _ECSSD_DINO,
        _MASKING,
        _LAMBDA2,
        _BOUNCES,
        _STRUCTURE,
        *DENOISERS,
    )
}
"""Name → experiment."""


def experiment_of(name: str) -> Experiment:
    """An experiment by its name.

    Raises:
        NotFoundError: no such experiment.
    """
    if name not in EXPERIMENTS:
        raise NotFoundError(f"no experiment {name!r}; {nearest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]
