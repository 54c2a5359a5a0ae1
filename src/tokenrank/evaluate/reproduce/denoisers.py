"""Experiments on denoisers of diffusers: concept maps on FLUX, DiffSeg and guidance on Stable Diffusion."""

from __future__ import annotations

from .experiment import Experiment, Figure, Mark, Order
from .generation import Generation

_PAPER = "Attention (as Discrete-Time Markov) Chains, NeurIPS 2025, arXiv 2507.17657"
_CONCEPTS = "Helbling et al., ConceptAttention (ICML 2025), table of single-class segmentation"
_FLUX = "black-forest-labs/FLUX.1-schnell"
_LAYERS = "layers=" + "+".join(str(n) for n in (*range(9, 19), *range(47, 57)))
"""The last ten double and the last ten single blocks of FLUX.1's 19 and 38, as the paper's demo takes them [V]."""

_BOUNCES = tuple(f"maps:refine=bounce:n={n}:heads=uniform:{_LAYERS}" for n in (1, 2, 3))
_RANK = f"maps:refine=tokenrank:heads=uniform:{_LAYERS}"
_WEIGHTED = f"maps:refine=bounce:n=2:heads=lambda2:{_LAYERS}"
_COLUMN = f"maps:refine=none:heads=uniform:{_LAYERS}"
_CONCEPT = "concept_attention:layers=14+15+16+17:outside=all"
"""Layers 14 to 17 of the 19 double blocks, and a stream for the class and for each word of the background [V]."""
_MAPS = ",".join((_COLUMN, *_BOUNCES, _RANK, _WEIGHTED, _CONCEPT))


def _row(method: str, accuracy: float, miou: float, average: float, mark: Mark, column: str) -> tuple[Figure, ...]:
    """A line of a published table, in percent; what it calls mIoU is compared with ``column``."""
    columns = {"accuracy": accuracy, column: miou, "map": average}
    return tuple(Figure(method, name, value / 100, 0.02, mark) for name, value in columns.items())


_SEGMENTATION = Experiment(
    name="imagenet-segmentation/flux-schnell",
    claim="Two bounces from the word in FLUX's attention find the object better than one, and as well as published.",
    source=f"{_PAPER}: 84.12/70.20/94.29 [S]; {_CONCEPTS}: 83.07/71.04/90.45, its "
    "cross-attention row 74.92/59.90/87.23 [R]; protocol [V]",
    models=(_FLUX,),
    weights="FLUX.1-schnell, the whole pipeline",
    pipeline=True,
    dataset="imagenet-segmentation",
    dataset_options={"named": True},
    folder="imagenet-segmentation",
    origin="gtsegs_ijcv.mat of calvin-vision.net/bigstuff/proj-imagenet/data [V], and words.txt of ImageNet beside it",
    images=4276,
    protocol="concept-segmentation",
    methods=_MAPS,
    expected=(
        *_row(_BOUNCES[1], 84.12, 70.20, 94.29, "S", "miou"),
        # this table's mIoU is accuracy / (2 − accuracy) [V]
        *_row(_COLUMN, 74.92, 59.90, 87.23, "R", "acc_ratio"),
        *_row(_CONCEPT, 83.07, 71.04, 90.45, "R", "acc_ratio"),
        Order(_BOUNCES[1], _BOUNCES[0], "miou", "S"),
        Order(_BOUNCES[1], _COLUMN, "miou", "S"),
        Order(_WEIGHTED, _BOUNCES[1], "miou", "S"),
    ),
    notes="Layers and steps of the published segmentation are not published: layers are those of the paper's demo [V], "
    "noise and its samples ConceptAttention's [V], the number of bounces that of a notes page [S]. Words are the first "
    "names of synsets, where ConceptAttention simplified some by hand; maps are cut at their mean after "
    "they were enlarged, there before. ConceptAttention takes the first token of a word, here all are averaged, and "
    "blurs its maps (3 × 3, σ = 1), here they are not.",
)

_VOC = Experiment(
    name="voc-single/flux-schnell",
    claim="Two bounces from the word in FLUX's attention find the object of PASCAL VOC better than its column.",
    source=f"{_CONCEPTS}: 87.85/76.45/90.19, its cross-attention row 80.37/54.77/89.08 [R], protocol [V]; "
    f"the order is that of {_PAPER} [S], which has no number for it",
    models=(_FLUX,),
    weights=_SEGMENTATION.weights,
    pipeline=True,
    dataset="voc2012",
    dataset_options={"single_class": True},
    folder="VOCdevkit",
    origin="PASCAL VOC 2012, its segmentation pictures and lists",
    images=930,
    protocol="voc-concepts",
    options={"raw": True},
    methods=_MAPS,
    expected=(
        *_row(_COLUMN, 80.37, 54.77, 89.08, "R", "miou"),
        Figure(_CONCEPT, "map", 0.9019, 0.02, "R"),
        Order(_BOUNCES[1], _BOUNCES[0], "miou", "S"),
        Order(_BOUNCES[1], _COLUMN, "miou", "S"),
    ),
    notes="The number of pictures is from memory [R]; a file of another number is not judged. Class names are VOC's, "
    "such as pottedplant. ConceptAttention's own 87.85/76.45 are of patches whose largest concept is the object [V]. "
    "Here every map is cut at its mean, so that its average precision alone is compared.",
)

_GRIDS = ("tokenrank-top", "tokenrank-nms", "tokenrank-cells", "tokenrank-sample")


def _segmenters(tau: float) -> tuple[str, ...]:
    return tuple(f"merge:layer=*:heads=uniform:tau={tau:g}:grid={grid}" for grid in ("uniform", *_GRIDS))


_DIFFSEG = "Tian et al., DiffSeg (CVPR 2024), table of unsupervised segmentation"
_SD14 = "CompVis/stable-diffusion-v1-4"

_COCO = Experiment(
    name="diffseg/coco-stuff",
    claim="DiffSeg comes out as published, and a grid of anchors by TokenRank improves it.",
    source=f"{_DIFFSEG}: 72.5/43.6 [S]; {_PAPER}: 84.97/44.87 with a TokenRank grid [S]",
    models=(_SD14,),
    weights="Stable Diffusion 1.4, the whole pipeline",
    pipeline=True,
    dataset="coco-stuff27",
    folder="cocostuff",
    origin="COCO val2017 with the PNGs of COCO-Stuff, and the list Coco164kFull_Stuff_Coarse_7.txt of 2,175 pictures",
    images=2175,
    protocol="diffseg",
    methods=",".join(_segmenters(1.1)),
    expected=(
        Figure(_segmenters(1.1)[0], "accuracy", 0.725, 0.02, "S"),
        Figure(_segmenters(1.1)[0], "miou", 0.436, 0.02, "S"),
        Figure(_segmenters(1.1)[2], "accuracy", 0.8497, 0.02, "S"),
        Figure(_segmenters(1.1)[2], "miou", 0.4487, 0.02, "S"),
        *(Order(grid, _segmenters(1.1)[0], "miou", "S") for grid in _segmenters(1.1)[1:]),
    ),
    notes="The rule of the published grid is not published: four are run, and the figure is compared with the best "
    "tokens apart [I]. 12.5 points of accuracy with 1.3 of mIoU are odd; 84.97 may be another accuracy, or of a part "
    "[I]. The original runs KerasCV's copy of the weights, in half precision in the first round of merging.",
)

_CITYSCAPES = Experiment(
    name="diffseg/cityscapes",
    claim="DiffSeg comes out as published on Cityscapes, and a grid of anchors by TokenRank improves it.",
    source=f"{_DIFFSEG}: 76.0/21.2 [R]",
    models=(_SD14,),
    weights=_COCO.weights,
    pipeline=True,
    dataset="cityscapes",
    folder="cityscapes",
    origin="Cityscapes, leftImg8bit and gtFine, val",
    images=500,
    protocol="diffseg",
    methods=",".join(_segmenters(0.9)),
    expected=(
        Figure(_segmenters(0.9)[0], "accuracy", 0.760, 0.02, "R"),
        Figure(_segmenters(0.9)[0], "miou", 0.212, 0.02, "R"),
        *(Order(grid, _segmenters(0.9)[0], "miou", "I") for grid in _segmenters(0.9)[1:]),
    ),
    notes=_COCO.notes,
)

_SAG = Experiment(
    name="sag/sd15",
    claim="Masks by TokenRank raise the Inception Score of Stable Diffusion's pictures under self-attention guidance.",
    source=f"{_PAPER}: IS 16.32 → 18.37 [S]; protocol of Hong et al., SAG (ICCV 2023) [V]",
    models=("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    weights="Stable Diffusion 1.5, the whole pipeline",
    pipeline=True,
    dataset="inception",
    folder="inception",
    origin="weights-inception-2015-12-05-6726825d.pth of torch-fidelity's release 0.2.0, with a folder reference of "
    "real pictures where distances are wanted, in one folder",
    images=10_000,
    protocol="generation",
    methods="none,colsum,tokenrank,random",
    generation=Generation(
        arms={
            "none": None,
            "colsum": {"mask": "colsum"},
            "tokenrank": {"mask": "tokenrank"},
            "random": {"mask": "random"},  # as large as TokenRank's: the control
        },
        options={"num_inference_steps": 50, "guidance_scale": 1.0},
    ),
    expected=(
        Figure("none", "inception_score", 16.32, 0.8, "S"),
        Figure("tokenrank", "inception_score", 18.37, 0.8, "S"),
    ),
    notes="Published are two numbers [S]: whether 16.32 is without guidance or with the column sum's mask, how many "
    "pictures there were, their prompts and the scale are not. Here all arms run on the same seeds, with a random "
    "mask of equal share as control, with the "
    "empty prompt, without classifier-free guidance, at scale 0.75 [I].",
)

DENOISERS = (_SEGMENTATION, _VOC, _COCO, _CITYSCAPES, _SAG)
