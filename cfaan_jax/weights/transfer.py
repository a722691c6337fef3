"""Torch's parameter names <-> this project's variables, strictly in both directions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models import SYSTEMS, VideoReID
from cfaan_jax.models.axial import AxialSettings
from cfaan_jax.models.normalization import BatchNorm
from cfaan_jax.weights.files import read

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}

# Names of a plain ResNet-50, which is called `base` inside the released networks.
_BARE = re.compile(r"(conv1|bn1|layer[1-4])\.")

# Axes of torch's layout in ours, by the number of axes here; vectors and tables of positions have the same in both.
_ORDERS = {4: (3, 2, 0, 1), 2: (1, 0)}
# Kernels that are matrices here: how many axes of length 1 follow in torch, by the last two parts of the name.
_POINTWISE = {"qkv_transform.weight": 1} | dict.fromkeys(
    ("conv_up.weight", "conv_down.weight", "theta.weight", "phi.weight", "g.weight", "0.weight"), 3)

# Our dotted path -> torch's. {1}, {2} ... are the groups; the named places are worked out in `_torch_name`.
_NAMES = [(re.compile(pattern + "$"), name) for pattern, name in (
    (r"backbone\.conv1\.kernel", "base.conv1.weight"),
    (r"backbone\.bn1\.(\w+)", "base.bn1.{1}"),
    (r"backbone\.stages\.(\d+)\.(\d+)\.(conv\d)\.kernel", "base.layer{stage}.{block}.{3}.weight"),
    (r"backbone\.stages\.(\d+)\.(\d+)\.(bn\d)\.(\w+)", "base.layer{stage}.{block}.{3}.{4}"),
    (r"backbone\.stages\.(\d+)\.(\d+)\.shortcut_conv\.kernel", "base.layer{stage}.{block}.downsample.0.weight"),
    (r"backbone\.stages\.(\d+)\.(\d+)\.shortcut_bn\.(\w+)", "base.layer{stage}.{block}.downsample.1.{3}"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.reduction", "base.layer{stage}.{attention}.conv_down.weight"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.expansion", "base.layer{stage}.{attention}.conv_up.weight"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.(bn\d)\.(\w+)", "base.layer{stage}.{attention}.{3}.{4}"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.scales\.(\d+)\.(\d+)\.qkv",
     "base.layer{stage}.{attention}.axial_gran.{layer}.qkv_transform.weight"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.scales\.(\d+)\.(\d+)\.relative",
     "base.layer{stage}.{attention}.axial_gran.{layer}.relative"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.scales\.(\d+)\.(\d+)\.(bn_\w+)\.(\w+)",
     "base.layer{stage}.{attention}.axial_gran.{layer}.{5}.{6}"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.theta\.(\w+)", "base.NL_{stage}.{rank}.theta.{3}"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.(phi|g)\.(\w+)", "base.NL_{stage}.{rank}.{3}{pooled}.{4}"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.w\.(\w+)", "base.NL_{stage}.{rank}.W.0.{3}"),
    (r"backbone\.attention\.(\d+)\.(\d+)\.bn\.(\w+)", "base.NL_{stage}.{rank}.W.1.{3}"),
    (r"head\.neck\.(\w+)", "bottleneck.{1}"),
    (r"head\.classifier", "classifier.weight"),
)]


@dataclass(frozen=True)
class _Entry:
    """One variable of a model and its form in torch."""

    variable: nnx.Variable
    shape: tuple[int, ...]  # torch's
    order: tuple[int, ...]  # of our axes in torch

    def to_torch(self) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(self.variable[...]).transpose(self.order)).reshape(self.shape)

    def fill(self, array: np.ndarray) -> None:
        ordered = array.reshape([self.variable.shape[axis] for axis in self.order])
        self.variable[...] = jnp.asarray(ordered.transpose(np.argsort(self.order)), self.variable.dtype)


def load_torch(model: VideoReID, source: Mapping[str, np.ndarray] | str | Path, skip: Sequence[str] = ()) -> None:
    """Fills a model with weights that carry torch's names.

    Args:
        model: changed only when everything fits.
        source: a mapping of arrays, or a file (.pth, .pt, .safetensors, .npz). An official checkpoint,
            `{"model": ..., "optimizer": ...}`, is recognised, and so is a plain ResNet-50, such as torchvision's for
            ImageNet (v1 and v2), which fills the backbone's convolutions and normalisations and leaves attention and
            head as they are.
        skip: names, or patterns such as "classifier.*", that are neither read nor required.

    Raises:
        InputError: unreadable file, or names that are missing, unexpected or of another shape; all are listed.
    """
    given = dict(source) if isinstance(source, Mapping) else read(source)
    for wrapper in ("model", "state_dict"):
        if isinstance(given.get(wrapper), Mapping):
            given = dict(given[wrapper])
    given = {name.removeprefix("module."): array for name, array in given.items()}
    skip = tuple(skip)
    if "conv1.weight" in given:
        given = {f"base.{name}" if _BARE.match(name) else name: array for name, array in given.items()}
        skip += ("fc.*", "bottleneck.*", "classifier.*", "base.NL_*", *_axial_patterns(model))
    where = "the mapping given" if isinstance(source, Mapping) else str(source)
    entries, constants = _entries(model), _constants(model)
    skipped = [name for name in {*given, *entries} if any(fnmatchcase(name, pattern) for pattern in skip)]
    given = {name: np.asarray(array) for name, array in given.items() if name not in skipped}
    entries = {name: entry for name, entry in entries.items() if name not in skipped}
    values = {name: _same_rank(given[name], entry.shape) for name, entry in entries.items() if name in given}
    _refuse_misfits(where, given, entries, constants, values)
    for name, entry in entries.items():
        entry.fill(values[name])
    for name, module in _normalisations(model).items():
        if (counter := f"{name}.num_batches_tracked") in given:
            module.imported_batches = int(given[counter])


def to_torch(model: VideoReID) -> dict[str, np.ndarray]:
    """The weights and running statistics under torch's names and in its layout, as `load_torch` takes them.

    Batch counters are those that were imported: training here does not count on.
    """
    return {name: entry.to_torch() for name, entry in _entries(model).items()} | _constants(model)


def _refuse_misfits(where: str, given: dict, entries: dict, constants: dict, values: dict) -> None:
    """Raises one InputError that lists everything that does not fit."""
    # Counters and look-up tables hold nothing that is learnt: older files lack them.
    unexpected = sorted(set(given) - set(entries) - set(constants))
    missing = sorted(set(entries) - set(given))
    shapes = [f"{name} {given[name].shape} instead of {entry.shape}" for name, entry in entries.items()
              if name in values and values[name].shape != entry.shape]
    shapes += [f"{name} differs from the table of this network" for name, table in constants.items()
               if name.endswith((".flatten_index", "bottleneck.bias")) and name in given
               and not np.array_equal(given[name], table)]
    parts = [f"{label} ({len(names)}): {', '.join(names)}" for label, names in
             (("missing", missing), ("unexpected", unexpected), ("of another shape or value", shapes)) if names]
    if parts:
        raise InputError(f"{where} does not fit the model:\n  " + "\n  ".join(parts)
                         + "\nbuild the model with the options of the file, or name what to leave out in skip")


def _entries(model: VideoReID) -> dict[str, _Entry]:
    entries = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))):
        name = _torch_name(model, ".".join(map(str, path)))
        axes = len(variable.shape)
        order = tuple(range(axes)) if name.endswith(".relative") else _ORDERS.get(axes, tuple(range(axes)))
        shape = _torch_shape(model, name, [variable.shape[axis] for axis in order])
        entries[name] = _Entry(_variable(model, path), shape, order)
    return entries


def _variable(model: VideoReID, path: Sequence):
    node = model
    for key in path:
        node = node[key] if isinstance(key, int) else getattr(node, key)
    return node


def _torch_name(model: VideoReID, ours: str) -> str:
    for pattern, name in _NAMES:
        if match := pattern.match(ours):
            groups = [_LEAVES.get(group, group) for group in match.groups()]
            places = {}
            if "{stage}" in name:
                places = _places(model, stage=int(groups[0]), block=int(groups[1]))
            if "{layer}" in name:  # three axes a scale
                places["layer"] = 3 * int(groups[2]) + int(groups[3])
            return name.format(None, *groups, **places)
    raise AssertionError(f"no torch name for {ours}")


def _places(model: VideoReID, stage: int, block: int) -> dict[str, int | str]:
    """Torch's numbers for a bottleneck and the attention behind it; CF-AA blocks sit in line with the bottlenecks."""
    attention = model.backbone.attention[stage]
    rank = sum(module is not None for module in attention[:block])
    shift = rank if _is_axial(model) else 0
    pooled = ".0" if getattr(attention[block], "sub_sample", False) else ""  # the pooling is torch's second module
    return dict(stage=stage + 1, block=block + shift, attention=block + shift + 1, rank=rank, pooled=pooled)


def _is_axial(model: VideoReID) -> bool:
    return SYSTEMS[model.name].attention is AxialSettings


def _torch_shape(model: VideoReID, name: str, ordered: Sequence[int]) -> tuple[int, ...]:
    """The shape in torch of a variable whose axes are in torch's order already."""
    if len(ordered) == 4:  # backbones with CF-AA blocks are written with 3-D convolutions, the others with 2-D ones
        return *ordered[:2], *((1,) if _is_axial(model) else ()), *ordered[2:]
    if len(ordered) == 2:
        return *ordered, *(1,) * _POINTWISE.get(".".join(name.split(".")[-2:]), 0)
    return tuple(ordered)


def _same_rank(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Lets a 2-D convolution stand for a 3-D one of length 1 in time, and the other way round."""
    if array.ndim + 1 == len(shape) == 5:
        return array[:, :, None]
    if array.ndim == 5 and len(shape) == 4 and array.shape[2] == 1:
        return array[:, :, 0]
    return array


def _axial_patterns(model: VideoReID) -> list[str]:
    """The torch names of everything in the CF-AA blocks."""
    entries = [name for name in (*_entries(model), *_constants(model)) if ".axial_gran." in name]
    return sorted({name.partition("axial_gran.")[0] + "*" for name in entries})


def _normalisations(model: VideoReID) -> dict[str, BatchNorm]:
    """The batch normalisations by torch's names."""
    modules = {}
    for path, _ in nnx.to_flat_state(nnx.state(model, nnx.BatchStat)):
        if path[-1] == "mean":
            name = _torch_name(model, ".".join(map(str, path)))
            modules[name.removesuffix(".running_mean")] = _variable(model, path[:-1])
    return modules


def _constants(model: VideoReID) -> dict[str, np.ndarray]:
    """What torch's state holds beside variables: batch counters, look-up tables, the neck's frozen offset."""
    entries = _entries(model)
    constants = {f"{name}.num_batches_tracked": np.array(module.imported_batches, np.int64)
                 for name, module in _normalisations(model).items()}
    constants["bottleneck.bias"] = np.zeros(entries["bottleneck.weight"].shape, np.float32)
    for name, entry in entries.items():
        if name.endswith(".relative"):
            length = (entry.shape[1] + 1) // 2
            position = np.arange(length)
            table = position[:, None] - position[None, :] + length - 1
            constants[name.removesuffix("relative") + "flatten_index"] = table.reshape(-1).astype(np.int64)
    return constants
