"""A traced network as an ONNX model for any number of clips; it knows the operations of `cfaan_jax.models`.

JAX traces a network to a list of primitive operations (a jaxpr), with the number of clips as a symbol. Operations on
constants are computed here, once; every other operation becomes one node or a few.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from onnx import helper, numpy_helper

OPSET = 18
_IR_VERSION = 10  # of the file format; onnxruntime 1.18 and later read it
_ONE_NODE = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "and": "And", "or": "Or",
    "not": "Not", "eq": "Equal", "gt": "Greater", "lt": "Less", "ge": "GreaterOrEqual", "le": "LessOrEqual",
    "exp": "Exp", "abs": "Abs", "sign": "Sign", "neg": "Neg", "sqrt": "Sqrt", "logistic": "Sigmoid",
    "stop_gradient": "Identity", "optimization_barrier": "Identity",
}  # elementwise


class NotConverted(Exception):
    """The network has an operation without a conversion; the message names it."""


@dataclass(frozen=True)
class _Tensor:
    """A variable of the jaxpr in the graph."""

    content: str | np.ndarray  # the name of a node's output or of an input, or a constant array
    shape: tuple  # an axis of length 1 may be broadcast later, which elementwise nodes do themselves

    @property
    def constant(self) -> bool:
        return isinstance(self.content, np.ndarray)


def convert(network: Callable, clips: Any, inputs: Mapping[str, jax.ShapeDtypeStruct], output: str,
            metadata: Mapping[str, str]) -> bytes:
    """The serialised ONNX model of a network from the inputs, in their order, to one array, named `output`.

    `clips` is the symbol of `jax.export.symbolic_shape` that occurs in shapes, alone or times a number. `NotConverted`
    for an operation or a dtype without a conversion.
    """
    traced = jax.make_jaxpr(network)(*inputs.values())
    graph = _Graph(clips, next(iter(inputs)))
    [features] = graph.run(traced.jaxpr, [_array(value) for value in traced.consts],
                           [_Tensor(name, value.shape) for name, value in inputs.items()])
    [result] = traced.out_avals
    graph.node("Identity", graph.broadcast(features, result.shape), outputs=[output])
    nodes, arrays = graph.needed_for(output)
    declared = [helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)),
        [length if isinstance(length, int) else str(length) for length in value.shape])
        for name, value in (*inputs.items(), (output, result))]
    model = helper.make_model(helper.make_graph(nodes, "network", declared[:-1], declared[-1:], arrays),
                              opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION,
                              producer_name="cfaan-jax")
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model.SerializeToString()


class _Graph:
    """Collects nodes while a jaxpr is converted; the input `batched` has a first axis of length `clips`."""

    def __init__(self, clips: Any, batched: str):
        self._clips, self._batched = clips, batched
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._names = 0

    def needed_for(self, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes and the arrays on which an output depends."""
        needed, nodes = {output}, []
        for node in reversed(self._nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                nodes.append(node)
        arrays = [numpy_helper.from_array(array, name) for name, array in self._arrays.items() if name in needed]
        return nodes[::-1], arrays

    def run(self, jaxpr: Jaxpr, constants: Sequence[_Tensor], arguments: Sequence[_Tensor]) -> list[_Tensor]:
        """Converts a jaxpr; returns its results."""
        tensors = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

        def tensor(atom) -> _Tensor:
            return _array(np.asarray(atom.val, atom.aval.dtype)) if isinstance(atom, Literal) else tensors[atom]

        for equation in jaxpr.eqns:
            results = self._equation(equation, list(map(tensor, equation.invars)))
            tensors.update(zip(equation.outvars, results, strict=True))
        return list(map(tensor, jaxpr.outvars))

    def node(self, kind: str, *inputs: str | np.ndarray, outputs: Sequence[str] = (), **attributes) -> str:
        """Adds a node; returns the name of its first output."""
        outputs = outputs or [self.new_name()]
        names = [self._store(value) if isinstance(value, np.ndarray) else value for value in inputs]
        self._nodes.append(helper.make_node(kind, names, outputs, **attributes))
        return outputs[0]

    def broadcast(self, tensor: _Tensor, shape: tuple) -> str | np.ndarray:
        """The content of a tensor, broadcast to a shape."""
        if tensor.shape == shape:
            return tensor.content
        if tensor.constant and _fixed(shape):
            return np.broadcast_to(tensor.content, shape)
        padded = (1,) * (len(shape) - len(tensor.shape)) + tensor.shape
        # Expand keeps an axis where its argument is 1.
        target = [1 if length == old else length for old, length in zip(padded, shape, strict=True)]
        if _fixed(target):
            return self.node("Expand", tensor.content, np.int64(target))
        count = self.node("Shape", self._batched, start=0, end=1)
        lengths = [np.int64([length]) if isinstance(length, int) else
                   self.node("Mul", count, np.int64([self._times_clips(length)])) for length in target]
        return self.node("Expand", tensor.content, self.node("Concat", *lengths, axis=0))

    def new_name(self) -> str:
        """A new name for a tensor."""
        self._names += 1
        return f"t{self._names}"

    def _store(self, array: np.ndarray) -> str:
        self._arrays[name := self.new_name()] = np.ascontiguousarray(array) if array.ndim else array
        return name

    def _times_clips(self, length: Any) -> int:
        count = length // self._clips
        if not isinstance(count, int) or count * self._clips != length:
            raise NotConverted(f"an axis of {length} elements")
        return count

    def _equation(self, equation: JaxprEqn, tensors: list[_Tensor]) -> list[_Tensor]:
        name, params = equation.primitive.name, equation.params
        shapes = [variable.aval.shape for variable in (*equation.invars, *equation.outvars)]
        if (inner := params.get("jaxpr", params.get("call_jaxpr"))) is not None:
            return self.run(inner.jaxpr, [_array(value) for value in inner.consts], tensors)
        computable = name not in ("broadcast_in_dim", "dim_as_value") and all(tensor.constant for tensor in tensors)
        if computable and all(map(_fixed, shapes)):
            return _computed(equation, tensors)
        contents = [tensor.content for tensor in tensors]
        if name in _ONE_NODE:
            return [_Tensor(self.node(_ONE_NODE[name], *contents), _broadcast_shape(tensors))]
        if name in _ELEMENTWISE:
            return [_Tensor(_ELEMENTWISE[name](self, params, *contents), _broadcast_shape(tensors))]
        if name in _OF_TENSORS:
            return [_OF_TENSORS[name](self, params, *tensors)]
        if name not in _OF_BROADCAST:
            raise NotConverted(f"the operation {name}")
        whole = [_Tensor(self.broadcast(tensor, shape), shape) for tensor, shape in zip(tensors, shapes, strict=False)]
        results = _OF_BROADCAST[name](self, params, *whole)
        return [_Tensor(result, variable.aval.shape) for result, variable in zip(
            results if isinstance(results, list) else [results], equation.outvars, strict=True)]

    def reshaped(self, tensor: _Tensor, shape: Sequence) -> _Tensor:
        """A tensor in another shape, of which one axis may be a number of clips."""
        shape = tuple(shape)
        if tensor.shape == shape:
            return tensor
        if tensor.constant:
            return _array(tensor.content.reshape(shape))
        lengths = [length if isinstance(length, int) else -1 for length in shape]
        if lengths.count(-1) > 1:
            raise NotConverted(f"a shape {shape}")
        return _Tensor(self.node("Reshape", tensor.content, np.int64(lengths)), shape)


def _array(value: Any) -> _Tensor:
    array = np.asarray(value)
    return _Tensor(array, array.shape)


def _fixed(shape: Sequence) -> bool:
    return all(isinstance(length, int) for length in shape)


def _broadcast_shape(tensors: Sequence[_Tensor]) -> tuple:
    """The shape of tensors that are broadcast together."""
    rank = max(len(tensor.shape) for tensor in tensors)
    shapes = [(1,) * (rank - len(tensor.shape)) + tensor.shape for tensor in tensors]
    return tuple(next((length for length in lengths if not (isinstance(length, int) and length == 1)), 1)
                 for lengths in zip(*shapes, strict=True))


def _computed(equation: JaxprEqn, tensors: list[_Tensor]) -> list[_Tensor]:
    """Results of an operation on constants."""
    arrays = [jnp.asarray(np.broadcast_to(tensor.content, variable.aval.shape))
              for tensor, variable in zip(tensors, equation.invars, strict=True)]
    results = equation.primitive.bind(*arrays, **equation.params)
    return [_array(result) for result in (results if equation.primitive.multiple_results else [results])]


def _cast(graph: _Graph, params: dict, name: str) -> str:
    dtype = np.dtype(params["new_dtype"])
    if dtype.kind not in "biuf":
        raise NotConverted(f"numbers of type {dtype}")
    return graph.node("Cast", name, to=helper.np_dtype_to_tensor_dtype(dtype))


def _select(graph: _Graph, params: dict, condition: str, *cases: str) -> str:
    if len(cases) != 2:
        raise NotConverted(f"a choice among {len(cases)}")
    return graph.node("Where", condition, *cases[::-1])


def _broadcast_in_dim(graph: _Graph, params: dict, tensor: _Tensor) -> _Tensor:
    shape = [1] * len(params["shape"])
    for axis, length in zip(params["broadcast_dimensions"], tensor.shape, strict=True):
        shape[axis] = length
    return graph.reshaped(tensor, shape)


def _squeeze(graph: _Graph, params: dict, tensor: _Tensor) -> _Tensor:
    shape = [length for axis, length in enumerate(tensor.shape) if axis not in params["dimensions"]]
    return graph.reshaped(tensor, shape)


def _transpose(graph: _Graph, params: dict, tensor: _Tensor) -> _Tensor:
    order = params["permutation"]
    return _Tensor(graph.node("Transpose", tensor.content, perm=order), tuple(tensor.shape[axis] for axis in order))


def _iota(graph: _Graph, params: dict) -> _Tensor:
    shape = [1] * len(params["shape"])
    shape[params["dimension"]] = -1
    if not isinstance(length := params["shape"][params["dimension"]], int):
        raise NotConverted(f"an iota of length {length}")
    return _array(np.arange(length, dtype=params["dtype"]).reshape(shape))


def _reduction(kind: str) -> Callable:
    return lambda graph, params, tensor: graph.node(kind, tensor.content, np.int64(params["axes"]), keepdims=0)


def _argmax(graph: _Graph, params: dict, tensor: _Tensor) -> str:
    index = graph.node("ArgMax", tensor.content, axis=params["axes"][0], keepdims=0)
    return _cast(graph, {"new_dtype": params["index_dtype"]}, index)


def _stack(graph: _Graph, params: dict, *tensors: _Tensor) -> str:
    axis = params["axis"]
    expanded = (graph.reshaped(tensor, (*tensor.shape[:axis], 1, *tensor.shape[axis:])) for tensor in tensors)
    return graph.node("Concat", *(tensor.content for tensor in expanded), axis=axis)


def _split(graph: _Graph, params: dict, tensor: _Tensor) -> list[str]:
    outputs = [graph.new_name() for _ in params["sizes"]]
    graph.node("Split", tensor.content, np.int64(params["sizes"]), axis=params["axis"], outputs=outputs)
    return outputs


def _slice(graph: _Graph, params: dict, tensor: _Tensor) -> str:
    bounds = [params["start_indices"], params["limit_indices"], params["strides"] or (1,) * len(tensor.shape)]
    axes = [axis for axis, (length, *bound) in enumerate(zip(tensor.shape, *bounds, strict=True))
            if bound != [0, length, 1]]
    starts, ends, steps = (np.int64([bound[axis] for axis in axes]) for bound in bounds)
    return graph.node("Slice", tensor.content, starts, ends, np.int64(axes), steps)


def _pad(graph: _Graph, params: dict, tensor: _Tensor, fill: _Tensor) -> str:
    before, after, between = zip(*params["padding_config"], strict=True)
    if any(between):
        raise NotConverted("padding between elements")
    return graph.node("Pad", tensor.content, np.int64([*before, *after]), fill.content)


def _gather(graph: _Graph, params: dict, tensor: _Tensor, indices: _Tensor) -> str:
    """Indexing with constants: one slice of some axes, or chosen elements of adjacent axes."""
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    axes = numbers.start_index_map
    lengths = [tensor.shape[axis] for axis in axes]
    if not indices.constant or numbers.operand_batching_dims or not _fixed(lengths):
        raise NotConverted("indexing with computed numbers")
    starts = np.moveaxis(indices.content, -1, 0)
    if any(((start < 0) | (start + sizes[axis] > length)).any()
           for start, axis, length in zip(starts, axes, lengths, strict=True)):
        raise NotConverted("indexing beyond the end")
    if numbers.collapsed_slice_dims != axes:
        if starts.ndim != 1:
            raise NotConverted("indexing with several slices")
        ends = [start + sizes[axis] for start, axis in zip(starts, axes, strict=True)]
        piece = _Tensor(graph.node("Slice", tensor.content, *map(np.int64, (starts, ends, axes))), sizes)
        return _squeeze(graph, {"dimensions": numbers.collapsed_slice_dims}, piece).content
    first, rest = axes[0], axes[-1] + 1
    merged = graph.reshaped(tensor, (*tensor.shape[:first], prod(lengths), *tensor.shape[rest:]))
    chosen = np.ravel_multi_index(tuple(starts), lengths)
    end = first + chosen.ndim
    others = (*range(first), *range(end, end + len(tensor.shape) - rest))
    if axes != tuple(range(first, rest)) or numbers.offset_dims != others:
        raise NotConverted("indexing of axes that are not adjacent")
    return graph.node("Gather", merged.content, np.asarray(chosen, np.int64), axis=first)


def _dot(graph: _Graph, params: dict, one: _Tensor, other: _Tensor) -> str:
    (sums, other_sums), (batch, other_batch) = params["dimension_numbers"]
    left, right = ascii_letters[:len(one.shape)], list(ascii_letters[26:26 + len(other.shape)])
    for axis, other_axis in zip((*sums, *batch), (*other_sums, *other_batch), strict=True):
        right[other_axis] = left[axis]
    result = [left[axis] for axis in batch]
    result += [left[axis] for axis in range(len(left)) if axis not in (*sums, *batch)]
    result += [right[axis] for axis in range(len(right)) if axis not in (*other_sums, *other_batch)]
    return graph.node("Einsum", one.content, other.content, equation=f"{left},{''.join(right)}->{''.join(result)}")


def _convolution(graph: _Graph, params: dict, maps: _Tensor, kernel: _Tensor) -> str:
    numbers, padding = params["dimension_numbers"], params["padding"]
    if any(factor != 1 for factor in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise NotConverted("a transposed or batch-grouped convolution")
    weights = kernel.content.transpose(numbers.rhs_spec) if kernel.constant else graph.node(
        "Transpose", kernel.content, perm=numbers.rhs_spec)
    result = graph.node("Conv", graph.node("Transpose", maps.content, perm=numbers.lhs_spec), weights,
                        strides=params["window_strides"], dilations=params["rhs_dilation"],
                        pads=[*(low for low, _ in padding), *(high for _, high in padding)],
                        group=params["feature_group_count"])
    return graph.node("Transpose", result, perm=[int(axis) for axis in np.argsort(numbers.out_spec)])


# Conversions from names, from tensors, and from broadcast tensors.
_ELEMENTWISE = {
    "rsqrt": lambda graph, _, name: graph.node("Reciprocal", graph.node("Sqrt", name)),
    "square": lambda graph, _, name: graph.node("Mul", name, name),
    "ne": lambda graph, _, *names: graph.node("Not", graph.node("Equal", *names)),
    "rem": lambda graph, _, *names: graph.node("Mod", *names, fmod=1),
    "convert_element_type": _cast, "select_n": _select,
}
_OF_TENSORS = {"broadcast_in_dim": _broadcast_in_dim, "squeeze": _squeeze, "transpose": _transpose, "iota": _iota}
_OF_BROADCAST = {
    "reshape": lambda graph, params, tensor: graph.reshaped(tensor, params["new_sizes"]).content,
    "concatenate": lambda graph, params, *tensors: graph.node(
        "Concat", *(tensor.content for tensor in tensors), axis=params["dimension"]),
    "reduce_sum": _reduction("ReduceSum"), "reduce_max": _reduction("ReduceMax"),
    "argmax": _argmax, "stack": _stack, "split": _split, "slice": _slice, "pad": _pad,
    "gather": _gather, "dot_general": _dot, "conv_general_dilated": _convolution,
}
