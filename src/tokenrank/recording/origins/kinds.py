"""Functions by what they do to the places of tokens, told by their names."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from torch import Tensor

Kind = Literal[
    "same",  # every entry for itself
    "first",  # the same of the first argument, whatever the others are
    "linear",
    "product",
    "einsum",
    "convolution",  # a window moved over a picture
    "window",
    "reshape",
    "move",
    "cat",
    "pad",
    "reduce",
    "assign",
    "scatter",
    "attention",
    "made",  # results that hold no patches
    "unknown",
]

# one name each; in-place twins (add_), operators (__radd__) and overloads (add.Tensor) are read as these
_NAMES: dict[str, str] = {
    "same": """
        abs absolute add addcdiv addcmul alias alpha_dropout and batch_norm bernoulli bfloat16 bool ceil celu clamp
        clamp_max clamp_min clip clone contiguous copy cos cpu cuda data detach div divide double drop_path dropout elu
        eq erf exp expm1 feature_dropout float floor floor_divide floordiv fmod ge gelu glu group_norm gt half
        hardsigmoid hardswish hardtanh instance_norm int invert isfinite isinf isnan layer_norm le leaky_relu lerp log
        log1p log2 log_softmax logical_and logical_not logical_or logit long lt masked_fill maximum minimum mish mul
        multiply nan_to_num native_dropout ne neg negative normalize not or positive pow prelu real reciprocal relu
        relu6 remainder requires_grad rms_norm round rsqrt rsub selu sigmoid sign silu sin softmax softplus sqrt square
        sub subtract tanh threshold true_divide truediv type where xor
    """,
    "first": "to type_as",
    "linear": "linear",
    "product": "addbmm addmm baddbmm bmm matmul mm",
    "einsum": "einsum",
    "convolution": """
        adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d avg_pool3d boolean_dispatch conv2d conv3d conv_transpose2d
        convolution interpolate max_pool2d max_pool2d_with_indices max_pool3d upsample upsample_bilinear2d
        upsample_nearest2d
    """,
    "window": "col2im fold im2col unfold",
    "reshape": "flatten reshape reshape_as squeeze unflatten unsqueeze view view_as",
    "move": """
        H T adjoint broadcast_to chunk diagonal dsplit expand expand_as flip fliplr flipud gather getitem hsplit
        index_select iter mH mT masked_select moveaxis movedim narrow permute repeat repeat_interleave roll rot90
        select split split_with_sizes stack swapaxes swapdims t take_along_dim tensor_split tile transpose unbind
        unsafe_chunk unsafe_split vsplit
    """,
    "cat": "cat concat concatenate",
    "pad": "constant_pad_nd pad",
    "reduce": "all amax amin any max mean min norm prod std sum var vector_norm",
    "assign": "setitem",
    "scatter": "index_copy masked_scatter scatter",
    "attention": "flex_attention scaled_dot_product_attention",
    "made": """
        allclose argmax argmin backward data_ptr device dim dtype element_size empty_like equal format full_like
        get_device grad grad_fn hash is_complex is_contiguous is_cpu is_cuda is_floating_point is_inference is_leaf
        is_meta is_mkldnn is_mps is_nested is_quantized is_sparse is_xpu item itemsize layout len names nbytes ndim
        new_empty new_full new_ones new_tensor new_zeros nonzero numel numpy ones_like rand_like randn_like
        register_hook repr shape size storage_offset stride tolist untyped_storage version zeros_like
    """,
}
_KINDS: dict[str, Any] = {name: kind for kind, names in _NAMES.items() for name in names.split()}
assert set(_NAMES) | {"unknown"} == set(get_args(Kind))
_OPERATOR = re.compile(r"__[ri]?(\w+?)__")


def kind_of(function: Any) -> Kind:
    """What a torch function does to places."""
    if function is Tensor.unfold:  # a view of overlapping slices; torch.nn.functional's is another
        return "move"
    kind: Kind = _KINDS.get(name_of(function), "unknown")
    return kind


def name_of(function: Any) -> str:
    """A function's plain name: "add" for ``Tensor.__iadd__``, ``torch.add`` and ``aten.add_.Tensor`` alike."""
    name = getattr(function, "__name__", "") or str(function)
    if name in ("__get__", "__set__"):  # of a property: T, mT, shape, data
        return str(getattr(getattr(function, "__self__", None), "__name__", "unknown"))
    name = name.split(".")[0]
    if name in _KINDS:
        return name
    plain = name.strip("_")
    operator = _OPERATOR.fullmatch(name)
    return operator[1] if operator is not None and plain not in _KINDS else plain
