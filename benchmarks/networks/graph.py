"""Networks exported as ONNX graphs: their tensors by the names of the nodes that use them, and how they run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tokenrank.errors import InputError, require

Array = npt.NDArray[Any]


def read(content: bytes) -> Any:
    """The model of an ONNX file."""
    return require("onnx", "networks").load_from_string(content)


def tensors(graph: Any) -> dict[str, Array]:
    """Initialisers by name."""
    numpy_helper = require("onnx.numpy_helper", "networks")
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def parameter(node: str, operation: str) -> str:
    """The weight that the node of a linear layer stands for: "/a/b/MatMul" → "a.b.weight"."""
    return re.sub(rf"/{operation}$", "", node).strip("/").replace("/", ".") + ".weight"


def linear_weights(graph: Any) -> dict[str, Tensor]:
    """Weights (out, in) of linear layers, which the exporter left transposed and without a name, by their modules."""
    known = tensors(graph)
    return {
        parameter(node.name, "MatMul"): torch.tensor(known[name].T.copy())
        for node in graph.node
        if node.op_type == "MatMul" and node.name.endswith("/MatMul")
        for name in node.input
        if name in known
    }


def nameless(graph: Any, under: str, operation: str) -> Tensor:
    """The one tensor that the exporter made up and that a node of this kind below a module reads.

    Raises:
        InputError: there is none, or more than one.
    """
    known = tensors(graph)
    found = {
        name
        for node in graph.node
        if node.op_type == operation and node.name.startswith(under)
        for name in node.input
        if name in known and name.startswith("onnx::")
    }
    if len(found) != 1:
        raise InputError(
            f"{len(found)} tensors without a name go into {operation} nodes of {under}, expected one; the graph is "
            "not the export that this converter was written for"
        )
    return torch.tensor(known[found.pop()])


def last_output(graph: Any, under: str) -> str:
    """What the last node below a module returns."""
    names = [node.output[0] for node in graph.node if node.name.startswith(under)]
    if not names:
        raise InputError(f"the graph has no node {under}…, expected the export that this converter was written for")
    return str(names[-1])


def keep_outputs(model: Any, names: Sequence[str]) -> None:
    """Make these the only outputs, and drop what does not lead to them."""
    onnx = require("onnx", "networks")
    graph = model.graph
    needed, kept = set(names), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    used = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(used)
    del graph.output[:]
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)


def side(model: Any, native: int) -> int:
    """The side of the pictures that the graph was made for; ``native`` where it takes any."""
    return int(model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value) or native


def run(model: Any, inputs: Tensor) -> list[Tensor]:
    """All outputs of the graph by onnxruntime, on one thread."""
    onnxruntime = require("onnxruntime", "networks")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.ascontiguousarray(inputs.numpy())}
    return [torch.tensor(output) for output in session.run(None, feed)]
