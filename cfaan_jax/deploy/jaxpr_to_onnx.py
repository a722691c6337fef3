"""A traced network as an ONNX model that takes any number of clips; the operations of `cfaan_jax.models` are known.

JAX says what is computed as a list of primitive operations (a jaxpr), with the number of clips as a symbol. Whatever
depends on the weights alone is computed here, once; every other operation becomes one node or a few.
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
_IR_VERSION = 10  # of the file; onnxruntime reads it from 1.18 on
_ONE_NODE = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "and": "And", "or": "Or",
    "not": "Not", "eq": "Equal", "gt": "Greater", "lt": "Less", "ge": "GreaterOrEqual", "le": "LessOrEqual",
    "exp": "Exp", "abs": "Abs", "sign": "Sign", "neg": "Neg", "sqrt": "Sqrt", "logistic": "Sigmoid",
    "stop_gradient": "Identity",
}  # element by element


class NotConverted(Exception):
    """The network does something for which there is no node here; the message says what."""


@dataclass(frozen=True)
class _Tensor:
    """What stands for a variable of the jaxpr.

    Attributes:
        content: the name of a node's output or of an input, or an array that is known beforehand.
        shape: its own one: an axis of length 1 may stand for a longer one, which elementwise nodes stretch by
            themselves.
    """

    content: str | np.ndarray
    shape: tuple

    @property
    def known(self) -> bool:
        return isinstance(self.content, np.ndarray)


def convert(network: Callable, clips: Any, inputs: Mapping[str, jax.ShapeDtypeStruct], output: str,
            metadata: Mapping[str, str]) -> bytes:
    """The ONNX model of a network, serialised.

    Args:
        network: takes the inputs in their order and gives one array.
        clips: the symbol of `jax.export.symbolic_shape` that may occur in shapes, alone or times a number.
        inputs: by name.
        output: its name.
        metadata: what else the file says.

    Raises:
        NotConverted: an operation, or a type of numbers, that is not known here.
    """
    traced = jax.make_jaxpr(network)(*inputs.values())
    graph = _Graph(clips, next(iter(inputs)))
    [found] = graph.run(traced.jaxpr, [_array(each) for each in traced.consts],
                        [_Tensor(name, given.shape) for name, given in inputs.items()])
    [result] = traced.out_avals
    graph.node("Identity", graph.whole(found, result.shape), outputs=[output])
    nodes, arrays = graph.needed_for(output)
    declared = [helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(each.dtype)),
        [length if isinstance(length, int) else str(length) for length in each.shape])
        for name, each in (*inputs.items(), (output, result))]
    model = helper.make_model(helper.make_graph(nodes, "network", declared[:-1], declared[-1:], arrays),
                              opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION,
                              producer_name="cfaan-jax")
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model.SerializeToString()


class _Graph:
    """Nodes in their order, while a jaxpr is gone through.

    Args:
        clips: the symbol in shapes.
        counted: the input whose first axis has that length.
    """

    def __init__(self, clips: Any, counted: str):
        self._clips, self._counted = clips, counted
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
        """Goes through a jaxpr; returns its results."""
        tensors = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

        def of(atom) -> _Tensor:
            return _array(np.asarray(atom.val, atom.aval.dtype)) if isinstance(atom, Literal) else tensors[atom]

        for equation in jaxpr.eqns:
            found = self._equation(equation, [of(each) for each in equation.invars])
            tensors.update(zip(equation.outvars, found, strict=True))
        return [of(each) for each in jaxpr.outvars]

    def node(self, kind: str, *inputs: str | np.ndarray, outputs: Sequence[str] = (), **attributes) -> str:
        """Adds a node; returns the name of its first output."""
        outputs = outputs or [self.new_name()]
        names = [self._stored(each) if isinstance(each, np.ndarray) else each for each in inputs]
        self._nodes.append(helper.make_node(kind, names, outputs, **attributes))
        return outputs[0]

    def whole(self, tensor: _Tensor, shape: tuple) -> str | np.ndarray:
        """A tensor with every axis as long as it is meant to be."""
        if tensor.shape == shape:
            return tensor.content
        if tensor.known and _fixed(shape):
            return np.broadcast_to(tensor.content, shape)
        own = (1,) * (len(shape) - len(tensor.shape)) + tensor.shape
        # Expand leaves an axis as it is where its own length is 1.
        stretched = [1 if one == length else length for one, length in zip(own, shape, strict=True)]
        if _fixed(stretched):
            return self.node("Expand", tensor.content, np.int64(stretched))
        count = self.node("Shape", self._counted, start=0, end=1)
        lengths = [np.int64([each]) if isinstance(each, int) else
                   self.node("Mul", count, np.int64([self._times_clips(each)])) for each in stretched]
        return self.node("Expand", tensor.content, self.node("Concat", *lengths, axis=0))

    def new_name(self) -> str:
        """A name that no tensor has yet."""
        self._names += 1
        return f"t{self._names}"

    def _stored(self, array: np.ndarray) -> str:
        self._arrays[name := self.new_name()] = np.ascontiguousarray(array) if array.ndim else array
        return name

    def _times_clips(self, length: Any) -> int:
        count = length // self._clips
        if not isinstance(count, int) or count * self._clips != length:
            raise NotConverted(f"an axis of {length} elements")
        return count

    def _equation(self, equation: JaxprEqn, tensors: list[_Tensor]) -> list[_Tensor]:
        name, shapes = equation.primitive.name, [each.aval.shape for each in (*equation.invars, *equation.outvars)]
        if (inner := equation.params.get("jaxpr", equation.params.get("call_jaxpr"))) is not None:
            return self.run(inner.jaxpr, [_array(each) for each in inner.consts], tensors)
        computable = name not in ("broadcast_in_dim", "dim_as_value") and all(each.known for each in tensors)
        if computable and all(map(_fixed, shapes)):
            return _computed(equation, tensors)
        if name in _ONE_NODE:
            return [_Tensor(self.node(_ONE_NODE[name], *(each.content for each in tensors)), _together(tensors))]
        if name in _ELEMENTWISE:
            return [_Tensor(_ELEMENTWISE[name](self, equation.params, *(each.content for each in tensors)),
                            _together(tensors))]
        if name in _STRETCHABLE:
            return [_STRETCHABLE[name](self, equation.params, *tensors)]
        if name not in _WHOLE:
            raise NotConverted(f"the operation {name}")
        given = [_Tensor(self.whole(each, shape), shape) for each, shape in zip(tensors, shapes, strict=False)]
        found = _WHOLE[name](self, equation.params, *given)
        return [_Tensor(each, variable.aval.shape) for each, variable in zip(
            found if isinstance(found, list) else [found], equation.outvars, strict=True)]

    def reshaped(self, tensor: _Tensor, shape: Sequence) -> _Tensor:
        """A tensor in another shape, one axis of which may be a number of clips."""
        shape = tuple(shape)
        if tensor.shape == shape:
            return tensor
        if tensor.known:
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


def _together(tensors: Sequence[_Tensor]) -> tuple:
    """The shape of tensors that are stretched to one another."""
    rank = max(len(each.shape) for each in tensors)
    shapes = [(1,) * (rank - len(each.shape)) + each.shape for each in tensors]
    return tuple(next((length for length in lengths if not (isinstance(length, int) and length == 1)), 1)
                 for lengths in zip(*shapes, strict=True))


def _computed(equation: JaxprEqn, tensors: list[_Tensor]) -> list[_Tensor]:
    """Results that depend on nothing but arrays."""
    arrays = [jnp.asarray(np.broadcast_to(tensor.content, variable.aval.shape))
              for tensor, variable in zip(tensors, equation.invars, strict=True)]
    found = equation.primitive.bind(*arrays, **equation.params)
    return [_array(each) for each in (found if equation.primitive.multiple_results else [found])]


def _cast(graph: _Graph, params: dict, given: str) -> str:
    dtype = np.dtype(params["new_dtype"])
    if dtype.kind not in "biuf":
        raise NotConverted(f"numbers of type {dtype}")
    return graph.node("Cast", given, to=helper.np_dtype_to_tensor_dtype(dtype))


def _select(graph: _Graph, params: dict, which: str, *cases: str) -> str:
    if len(cases) != 2:
        raise NotConverted(f"a choice among {len(cases)}")
    return graph.node("Where", which, *cases[::-1])


def _broadcast(graph: _Graph, params: dict, given: _Tensor) -> _Tensor:
    shape = [1] * len(params["shape"])
    for axis, length in zip(params["broadcast_dimensions"], given.shape, strict=True):
        shape[axis] = length
    return graph.reshaped(given, shape)


def _squeeze(graph: _Graph, params: dict, given: _Tensor) -> _Tensor:
    kept = (length for axis, length in enumerate(given.shape) if axis not in params["dimensions"])
    return graph.reshaped(given, list(kept))


def _transpose(graph: _Graph, params: dict, given: _Tensor) -> _Tensor:
    order = params["permutation"]
    return _Tensor(graph.node("Transpose", given.content, perm=order), tuple(given.shape[axis] for axis in order))


def _iota(graph: _Graph, params: dict) -> _Tensor:
    shape = [1] * len(params["shape"])
    shape[params["dimension"]] = -1
    if not isinstance(length := params["shape"][params["dimension"]], int):
        raise NotConverted(f"numbers counted up to {length}")
    return _array(np.arange(length, dtype=params["dtype"]).reshape(shape))


def _reshape(graph: _Graph, params: dict, given: _Tensor) -> str | np.ndarray:
    return graph.reshaped(given, params["new_sizes"]).content


def _reduction(kind: str) -> Callable:
    return lambda graph, params, given: graph.node(kind, given.content, np.int64(params["axes"]), keepdims=0)


def _argmax(graph: _Graph, params: dict, given: _Tensor) -> str:
    place = graph.node("ArgMax", given.content, axis=params["axes"][0], keepdims=0)
    return _cast(graph, {"new_dtype": params["index_dtype"]}, place)


def _concatenate(graph: _Graph, params: dict, *given: _Tensor) -> str:
    return graph.node("Concat", *(each.content for each in given), axis=params["dimension"])


def _stack(graph: _Graph, params: dict, *given: _Tensor) -> str:
    axis = params["axis"]
    return graph.node("Concat", *(graph.reshaped(each, (*each.shape[:axis], 1, *each.shape[axis:])).content
                                  for each in given), axis=axis)


def _split(graph: _Graph, params: dict, given: _Tensor) -> list[str]:
    outputs = [graph.new_name() for _ in params["sizes"]]
    graph.node("Split", given.content, np.int64(params["sizes"]), axis=params["axis"], outputs=outputs)
    return outputs


def _slice(graph: _Graph, params: dict, given: _Tensor) -> str:
    bounds = [params["start_indices"], params["limit_indices"], params["strides"] or (1,) * len(given.shape)]
    axes = [axis for axis, (length, *bound) in enumerate(zip(given.shape, *bounds, strict=True))
            if bound != [0, length, 1]]
    starts, ends, steps = (np.int64([each[axis] for axis in axes]) for each in bounds)
    return graph.node("Slice", given.content, starts, ends, np.int64(axes), steps)


def _pad(graph: _Graph, params: dict, given: _Tensor, fill: _Tensor) -> str:
    before, after, within = zip(*params["padding_config"], strict=True)
    if any(within):
        raise NotConverted("padding between elements")
    return graph.node("Pad", given.content, np.int64([*before, *after]), fill.content)


def _gather(graph: _Graph, params: dict, given: _Tensor, places: _Tensor) -> str:
    """Indexing with known numbers: a part of some axes, or chosen elements of axes side by side."""
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    axes = numbers.start_index_map
    if not places.known or numbers.operand_batching_dims or not _fixed([given.shape[axis] for axis in axes]):
        raise NotConverted("indexing with numbers that are computed")
    starts, lengths = np.moveaxis(places.content, -1, 0), [given.shape[axis] for axis in axes]
    if any(((start < 0) | (start + sizes[axis] > given.shape[axis])).any()
           for start, axis in zip(starts, axes, strict=True)):
        raise NotConverted("indexing beyond the end")
    if numbers.collapsed_slice_dims != axes:
        return _part(graph, given, starts, sizes, numbers)
    first, rest = axes[0], axes[-1] + 1
    merged = graph.reshaped(given, (*given.shape[:first], prod(lengths), *given.shape[rest:]))
    chosen = np.ravel_multi_index(tuple(starts), lengths)
    behind = first + chosen.ndim
    where = (*range(first), *range(behind, behind + len(given.shape) - rest))
    if axes != tuple(range(first, rest)) or numbers.offset_dims != where:
        raise NotConverted("indexing of axes that are apart")
    return graph.node("Gather", merged.content, np.asarray(chosen, np.int64), axis=first)


def _part(graph: _Graph, given: _Tensor, starts: np.ndarray, sizes: tuple, numbers: Any) -> str:
    if starts.ndim != 1:
        raise NotConverted("indexing with several parts")
    axes = numbers.start_index_map
    ends = [start + sizes[axis] for start, axis in zip(starts, axes, strict=True)]
    part = _Tensor(graph.node("Slice", given.content, *map(np.int64, (starts, ends, axes))), sizes)
    return _squeeze(graph, {"dimensions": numbers.collapsed_slice_dims}, part).content


def _dot(graph: _Graph, params: dict, one: _Tensor, other: _Tensor) -> str:
    (sums, other_sums), (batch, other_batch) = params["dimension_numbers"]
    left, right = ascii_letters[:len(one.shape)], list(ascii_letters[26:26 + len(other.shape)])
    for axis, other_axis in zip((*sums, *batch), (*other_sums, *other_batch), strict=True):
        right[other_axis] = left[axis]
    result = [left[axis] for axis in batch]
    result += [left[axis] for axis in range(len(left)) if axis not in (*sums, *batch)]
    result += [right[axis] for axis in range(len(right)) if axis not in (*other_sums, *other_batch)]
    return graph.node("Einsum", one.content, other.content, equation=f"{left},{''.join(right)}->{''.join(result)}")


def _convolution(graph: _Graph, params: dict, given: _Tensor, kernel: _Tensor) -> str:
    numbers, padding = params["dimension_numbers"], params["padding"]
    if any(each != 1 for each in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise NotConverted("a convolution of a stretched map")
    weights = kernel.content.transpose(numbers.rhs_spec) if kernel.known else graph.node(
        "Transpose", kernel.content, perm=numbers.rhs_spec)
    found = graph.node("Conv", graph.node("Transpose", given.content, perm=numbers.lhs_spec), weights,
                       strides=params["window_strides"], dilations=params["rhs_dilation"],
                       pads=[*(low for low, _ in padding), *(high for _, high in padding)],
                       group=params["feature_group_count"])
    return graph.node("Transpose", found, perm=[int(axis) for axis in np.argsort(numbers.out_spec)])


# Element by element, of names; of tensors that may have to be stretched; of whole ones, with names as results.
_ELEMENTWISE = {
    "rsqrt": lambda graph, _, given: graph.node("Reciprocal", graph.node("Sqrt", given)),
    "square": lambda graph, _, given: graph.node("Mul", given, given),
    "ne": lambda graph, _, *given: graph.node("Not", graph.node("Equal", *given)),
    "rem": lambda graph, _, *given: graph.node("Mod", *given, fmod=1),
    "convert_element_type": _cast, "select_n": _select,
}
_STRETCHABLE = {"broadcast_in_dim": _broadcast, "squeeze": _squeeze, "transpose": _transpose, "iota": _iota}
_WHOLE = {
    "reshape": _reshape, "reduce_sum": _reduction("ReduceSum"), "reduce_max": _reduction("ReduceMax"),
    "argmax": _argmax, "concatenate": _concatenate, "stack": _stack, "split": _split, "slice": _slice, "pad": _pad,
    "gather": _gather, "dot_general": _dot, "conv_general_dilated": _convolution,
}
