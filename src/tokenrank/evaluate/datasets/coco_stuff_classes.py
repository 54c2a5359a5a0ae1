"""The 27 coarse classes of COCO-Stuff: which of the 182 classes belongs to which.

The coarse classes are the supercategories of COCO's things and of the stuff hierarchy (Caesar et al., CVPR 2018).
Numbers are those in the PNGs: place in the official list of labels minus one, so person is 0 and wood 181; the eleven
that COCO no longer uses are kept. Provenance: [V] the membership and the order, read in public source that evaluates on
this list (a descendant of STEGO's), the membership checked against the official list of labels; [R] that IIC, PiCIE and
DiffSeg use the same order. The order changes no metric, since clusters are matched to classes.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

MEMBERS = MappingProxyType(
    {
        "electronic": "71-76",
        "appliance": "77-82",
        "food": "51-60",
        "furniture": "61-70",
        "indoor": "83-90",
        "kitchen": "43-50",
        "accessory": "25-32",
        "animal": "15-24",
        "outdoor": "9-14",
        "person": "0",
        "sports": "33-42",
        "vehicle": "1-8",
        "ceiling": "101-102",
        "floor": "100 113-117",
        "food-stuff": "120-121 152 169",
        "furniture-stuff": "97 106-107 109 111 122 129 132 155 160 164",
        "raw-material": "99 131 138 142",
        "textile": "91-92 103-104 108 130 136 140 151 166-167",
        "wall": "170-176",
        "window": "179-180",
        "building": "94-95 127 150 157 165",
        "ground": "110 124-125 135 139 143-144 146 148 153 158",
        "plant": "93 96 118 123 128 133 141 162 168",
        "sky": "105 156",
        "solid": "126 134 149 159 161 181",
        "structural": "98 112 137 145 163",
        "water": "119 147 154 177-178",
    }
)
"""Coarse class → numbers of its classes, with ranges as first-last."""

CLASSES: tuple[str, ...] = tuple(MEMBERS)


def _table() -> npt.NDArray[np.int64]:
    coarse = np.full(182, -1, dtype=np.int64)
    for number, members in enumerate(MEMBERS.values()):
        for run in members.split():
            first, _, last = run.partition("-")
            coarse[int(first) : int(last or first) + 1] = number
    return coarse


COARSE = _table()
"""(182,): the coarse class of every class."""
