"""Where the tokens of an attention came from: the cells of a convolution's output, followed to the queries."""

from .follow import Origins
from .tagged import Step
from .trail import NO_PICTURE, NOT_FOLLOWED, Lost, Picture, Trail

__all__ = ["NOT_FOLLOWED", "NO_PICTURE", "Lost", "Origins", "Picture", "Step", "Trail"]
