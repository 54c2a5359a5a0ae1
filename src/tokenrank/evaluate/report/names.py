"""Names that a reader knows for protocols, figures and methods; what has none here stays as it is typed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...baselines import methods as registered

PROTOCOLS = {
    "saliency": "Saliency",
    "seed": "Segmentation from a seed",
    "several": "Several objects, each from a seed",
    "imagenet-segmentation": "ImageNet-Segmentation",
    "voc-single": "PASCAL VOC, one class a picture",
    "regions": "Regions",
    "clustering": "Clustering",
    "masking": "Faithfulness by masking",
    "concept-segmentation": "Object by its name",
    "voc-concepts": "PASCAL VOC, object by its name",
    "diffseg": "DiffSeg",
}
DATASETS = {
    "ecssd": "ECSSD",
    "duts-te": "DUTS-TE",
    "dut-omron": "DUT-OMRON",
    "bsds500": "BSDS500",
    "voc2012": "PASCAL VOC 2012",
    "imagenet-segmentation": "ImageNet-Segmentation",
    "coco-panoptic": "COCO panoptic",
    "coco-stuff27": "COCO-Stuff-27",
    "cityscapes": "Cityscapes",
    "tiny-imagenet": "Tiny-ImageNet",
}
METHODS = {
    "saliency": "tokenrank saliency",
    "arrival": "Arrival",
    "tokenrank": "TokenRank",
    "bounce": "Bounces",
    "cls_bounce": "Bounces from CLS",
    "raw_row": "Attention row",
    "column_sum": "Column sum",
    "cls_row": "CLS row",
    "dino_mass": "CLS mass (DINO)",
    "rollout": "Rollout",
    "attention_flow": "Attention flow",
    "grad_cam": "Grad-CAM",
    "pytorch_grad_cam": "pytorch-grad-cam",
    "generic_relevance": "Generic relevance",
    "transformer_attribution": "Transformer attribution",
    "partial_lrp": "Partial LRP",
    "tokencut": "TokenCut",
    "lost": "LOST",
    "deep_spectral": "Deep Spectral",
    "random": "Random",
    "centre_prior": "Centre prior",
    "lattice": "Lattice",
    "merge": "Merging",
    "metastable": "Metastable states",
    "kmeans": "k-means",
    "blocks": "Blocks",
    "maps": "Concept maps",
    "raw_column": "Column of the word",
    "expert_layer": "Expert layer",
    "daam": "DAAM",
    "concept_attention": "ConceptAttention",
    "iseg": "iSeg",
    "automatic_heads": "Automatic heads",
    "walked_ncut": "Cuts of a walk",
}
_OPTIONS = {"tau": "τ", "alpha": "α", "sigma": "σ"}

_FIGURES = {
    "iou": "IoU",
    "iou_things": "IoU of things",
    "iou_stuff": "IoU of stuff",
    "miou": "Mean IoU",
    "accuracy": "Pixel accuracy",
    "mean_accuracy": "Mean accuracy of classes",
    "acc_ratio": "Accuracy / (2 − accuracy)",
    "stacked_accuracy": "Pixel accuracy, void counted",
    "map": "Average precision",
    "f": "F (β² = 0.3)",
    "f1": "F1",
    "corloc": "CorLoc",
    "max_f": "maxF, one threshold (β² = 0.3)",
    "max_f_squared": "maxF, one threshold (β² = 0.09)",
    "max_f_each": "maxF, each picture's own threshold (β² = 0.3)",
    "max_f_each_squared": "maxF, each picture's own threshold (β² = 0.09)",
    "s_measure": "S-measure",
    "e_measure": "E-measure",
    "classes": "Classes in a picture",
    "segments": "Segments in a picture",
    "base": "Accuracy, nothing masked",
    "covering_ods": "Covering, ODS",
    "covering_ois": "Covering, OIS",
    "covering_best": "Covering, best segments of all scales",
    "covering_k": "Segments at the covering's ODS",
    "rand_ods": "Rand index, ODS",
    "rand_ois": "Rand index, OIS",
    "rand_k": "Segments at the Rand index's ODS",
    "information_ods": "Variation of information, ODS (bits)",
    "information_ois": "Variation of information, OIS (bits)",
    "information_k": "Segments at the variation of information's ODS",
}
_POSTS = {
    "_component_refined": ", one component, guided filter",
    "_component": ", one component",
    "_refined": ", guided filter",
    "_solved": ", one component, bilateral solver",
    "_strict": ", spare segments left out",
}
_MASKED = re.compile(r"(auc|normalised|probability_auc)_(keys|remove|pixels|single-pixels)_(most|least)")
_AREA = {"auc": "AUC", "normalised": "AUC over clean accuracy", "probability_auc": "AUC of the probability"}
_WAY = {
    "keys": "keys masked",
    "remove": "tokens removed",
    "pixels": "pixels of patches blackened",
    "single-pixels": "pixels blackened",
}


def figure_name(key: str) -> str:
    """A column of a protocol's summary in words."""
    if key in _FIGURES:
        return _FIGURES[key]
    if masked := _MASKED.fullmatch(key):
        area, way, order = masked.groups()
        return f"{_AREA[area]}, {_WAY[way]}, {order} important first"
    for post, words in _POSTS.items():
        if key.endswith(post) and key.removesuffix(post) in _FIGURES:
            return _FIGURES[key.removesuffix(post)] + words
    return key


def method_names(typed: Sequence[str]) -> dict[str, str]:
    """Method as typed → in words, options behind commas; as typed where two would be the same."""
    words = [_method_name(name) for name in typed]
    return {name: found if words.count(found) == 1 else name for name, found in zip(typed, words, strict=True)}


def _method_name(typed: str) -> str:
    name, *options = typed.split(":")
    if name not in METHODS or not all("=" in option for option in options):
        return typed
    parts = [METHODS[name]]
    for option in options:
        key, _, value = option.partition("=")
        key = _OPTIONS.get(key, key)
        parts.append(f"{key} = {value}" if len(key) == 1 else f"{key.replace('_', ' ')} {value}")
    return ", ".join(parts)


def about_method(typed: str) -> str:
    """What a registered method is, the first line of its documentation; nothing for others."""
    found = registered().get(typed.split(":")[0])
    return "" if found is None else (found.function.__doc__ or "").strip().split("\n")[0].replace("`", "")
