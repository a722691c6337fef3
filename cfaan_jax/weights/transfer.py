"""Torch's parameter names <-> this project's variables, strict in both directions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError, shortened
from cfaan_jax.models import VideoReID
from cfaan_jax.models.layers.batch_norm import BatchNorm
from cfaan_jax.weights.files import read

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_COUNTER = "num_batches_tracked"
_HEADS = ("fc.", "bottleneck.", "classifier.")  # of files that are a plain ResNet-50 otherwise

# Our axes in torch's order, by their number.
_ORDERS = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0), 1: (0,)}

# (our container, torch's name, its name in a plain ResNet-50). {1}, {2} ... are the groups, `_places` gives the named
# fields. A system puts its own rows before these.
_CONTAINERS = (
    (r"backbone\.stages\.(\d+)\.(\d+)\.", "{prefix}{stage}.{place}.", "layer{number}.{block}."),
    (r"backbone\.attention\.(\d+)\.(\d+)\.", "{prefix}{following}.", None),
    (r"backbone\.conv1\.", "{prefix}{conv1}.", "conv1."),
    (r"backbone\.bn1\.", "{prefix}{bn1}.", "bn1."),
    (r"head\.|further_heads\.(\d+)\.", "", None),
    (r"", "", None),
)
# (our variable in its container, torch's name). A system has more rows, with the number of axes that torch appends.
_NAMES = (
    (r"(kernel|scale|bias|mean|var)", "{1}"),
    (r"(conv[13])\.kernel", "{1}.weight"),
    (r"conv2\.kernel", "{conv2}.weight"),
    (r"(bn\d)\.(\w+)", "{1}.{2}"),
    (r"shortcut_conv\.kernel", "downsample.0.weight"),
    (r"shortcut_bn\.(\w+)", "downsample.1.{1}"),
    (r"neck\.(\w+)", "{neck}.{1}"),
    (r"classifier", "{classifier}.weight"),
    (r"classifier_offset", "{classifier}.bias"),
)


@dataclass(frozen=True)
class _Entry:
    """A variable as torch has it: its shape, our axes in torch's order, and its name in a plain ResNet-50, if any."""

    variable: nnx.Variable
    shape: tuple[int, ...]
    order: tuple[int, ...]
    resnet_name: str | None

    def to_torch(self) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(self.variable[...]).transpose(self.order)).reshape(self.shape)

    def fill(self, array: np.ndarray) -> None:
        ordered = array.reshape([self.variable.shape[axis] for axis in self.order])
        self.variable[...] = jnp.asarray(ordered.transpose(np.argsort(self.order)), self.variable.dtype)


def load_torch(model: VideoReID, source: Mapping[str, np.ndarray] | str | Path, skip: Sequence[str] = ()) -> None:
    """Fills a model with weights that carry torch's names.

    Examples:
        >>> from cfaan_jax import models, weights
        >>> small = dict(num_classes=3, width=8, depths=(1, 1, 1, 1))
        >>> one, other = models.create("c2d", seed=0, **small), models.create("c2d", seed=1, **small)
        >>> weights.load_torch(other, weights.to_torch(one))  # or "checkpoint.pth"
        >>> weights.load_torch(other, {}, skip=["base.*"])
        Traceback (most recent call last):
        cfaan_jax.errors.InputError: the mapping does not fit the model: missing: bottleneck.running_mean, ...
        build the model with the options of the file, or name what to leave out in skip

    Args:
        model: changed only when everything fits.
        source: a mapping of arrays, or a file (.pth, .pt, .safetensors, .npz). An official checkpoint,
            `{"model": ..., "optimizer": ...}` or `{"state_dict": ...}`, is recognised. So is a plain ResNet-50, such as
            torchvision's for ImageNet (v1 and v2): it fills the backbone's convolutions and normalisations, and leaves
            the rest, such as attention and head, as it is.
        skip: names, or patterns such as "classifier.*", that are neither read nor required.
    Raises:
        InputError: unreadable file, or names that are missing, unexpected or of another shape.
    """
    where = "the mapping" if isinstance(source, Mapping) else str(source)
    arrays = dict(source) if isinstance(source, Mapping) else read(source)
    for wrapper in ("model", "state_dict"):
        if isinstance(arrays.get(wrapper), Mapping):
            arrays = dict(arrays[wrapper])
    arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    entries, constants = _entries(model), _constants(model)
    # Official files of some networks have a conv1.weight, too, but also a neck.
    if "conv1.weight" in arrays and (model.layout.prefix or f"{_neck(model)}.weight" not in arrays):
        arrays = _from_resnet(model, arrays, entries)
        skip = (*skip, *(name for name, entry in entries.items() if entry.resnet_name is None))
    skipped = {name for name in {*arrays, *entries} if any(fnmatchcase(name, pattern) for pattern in skip)}
    arrays = {name: np.asarray(array) for name, array in arrays.items() if name not in skipped}
    entries = {name: entry for name, entry in entries.items() if name not in skipped}
    values = {name: _same_rank(arrays[name], entry.shape) for name, entry in entries.items() if name in arrays}
    _check_fit(where, arrays, entries, constants, values)
    counts = {module: _batch_count(where, counter, arrays[counter]) for name, module in _batch_norms(model).items()
              if (counter := f"{name}.{_COUNTER}") in arrays}
    for name, entry in entries.items():
        entry.fill(values[name])
    for module, count in counts.items():
        module.imported_batches = count


def classifier_of(model: VideoReID) -> str:
    """The pattern of its classifiers' names, for `skip`: features need no classifier."""
    return model.layout.classifier.format(branch="*") + ".*"


def _batch_count(where: str, name: str, array: np.ndarray) -> int:
    if array.size != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise InputError(f"{where}: {name} is {array.dtype} {list(array.shape)} in place of one number; restore it")
    return int(array.reshape(()))


def to_torch(model: VideoReID) -> dict[str, np.ndarray]:
    """The weights and running statistics under torch's names and in its layout, for `load_torch` or torch.

    Examples:
        >>> from cfaan_jax import models, weights
        >>> state = weights.to_torch(models.create("c2d", num_classes=3, width=8, depths=(1, 1, 1, 1)))
        >>> state["base.conv1.weight"].shape, state["classifier.weight"].shape
        ((8, 3, 7, 7), (3, 256))

    Batch counters are those that were imported: training here does not count batches.
    """
    return {name: entry.to_torch() for name, entry in _entries(model).items()} | _constants(model)


def _check_fit(where: str, arrays: dict, entries: dict, constants: dict, values: dict) -> None:
    # Counters and look-up tables hold nothing that is learnt: older files lack them.
    unexpected = sorted(set(arrays) - set(entries) - set(constants))
    missing = sorted(set(entries) - set(arrays))
    different = [f"{name} {arrays[name].shape} instead of {entries[name].shape}" for name, value in values.items()
                 if value.shape != entries[name].shape]
    different += [f"{name} differs from the table of this network" for name, table in constants.items()
                  if not name.endswith(_COUNTER) and name in arrays and not np.array_equal(arrays[name], table)]
    misfits = {kind: names for kind, names in (("missing", missing), ("unexpected", unexpected),
                                               ("of another shape or value", different)) if names}
    if misfits:
        most = 5 if len(misfits) == 1 else 2
        listed = [f"{kind}: {shortened(names, most)}" for kind, names in misfits.items()]
        raise InputError(f"{where} does not fit the model: {'; '.join(listed)}\n"
                         "build the model with the options of the file, or name what to leave out in skip")


def _from_resnet(model: VideoReID, arrays: Mapping, entries: Mapping[str, _Entry]) -> dict:
    """The weights of a plain ResNet-50 under the names of a model's own code, without the head of the file."""
    known = {name: entry.resnet_name for name, entry in entries.items() if entry.resnet_name is not None}
    known |= {name.replace("running_mean", _COUNTER): plain.replace("running_mean", _COUNTER)
              for name, plain in known.items() if name.endswith(".running_mean")}
    plain_names = set(known.values())
    unknown = [name for name in arrays if name not in plain_names and not name.startswith(_HEADS)]
    return ({name: arrays[plain] for name, plain in known.items() if plain in arrays}
            | {f"{model.layout.prefix}{name}": arrays[name] for name in unknown})


def _entries(model: VideoReID) -> dict[str, _Entry]:
    entries = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))):
        name, plain, ones, volume = _name(model, ".".join(map(str, path)))
        axes = len(variable.shape)
        order = tuple(range(axes)) if name.endswith(".relative") else _ORDERS[axes]
        shape = tuple(variable.shape[axis] for axis in order)
        if volume and axes == 4:
            shape = (*shape[:2], 1, *shape[2:])
        entries[name] = _Entry(_variable(model, path), shape + (1,) * ones, order, plain)
    return entries


def _variable(model: VideoReID, path: Sequence) -> Any:
    node: Any = model
    for key in path:
        node = node[key] if isinstance(key, int) else getattr(node, key)
    return node


def _name(model: VideoReID, ours: str) -> tuple[str, str | None, int, bool]:
    """Torch's name of a variable, its name in a plain ResNet-50, axes that torch appends, whether kernels are 3-D."""
    containers = ((re.match(row[0], ours), *row) for row in (*model.hooks.torch_prefixes, *_CONTAINERS))
    match, container, torch, plain = next(row for row in containers if row[0])
    places, rest = _places(model, container, match), ours[match.end():]
    volume = model.layout.volumes and (container, torch, plain) in _CONTAINERS
    own = ((pattern, name, 0) for pattern, name in _NAMES)
    for pattern, name, ones in (*own, *model.hooks.torch_names):
        if inside := re.fullmatch(pattern, rest):
            groups = [_LEAVES.get(group, group) for group in inside.groups()]
            if "{axis}" in name:  # three axes a scale
                places["axis"] = 3 * int(groups[0]) + int(groups[1])
            full = torch.format(None, *match.groups(), **places) + name.format(None, *groups, **places)
            if plain is not None and (pattern, name) in _NAMES:
                plain_name = plain.format(None, *match.groups(), **places)
                return full, plain_name + name.format(None, *groups, **places | {"conv2": "conv2"}), ones, volume
            return full, None, ones, volume
    raise AssertionError(f"no torch name for {ours}")


def _places(model: VideoReID, container: str, match: re.Match) -> dict[str, int | str]:
    """The named fields of `_CONTAINERS` and `_NAMES`."""
    layout = model.layout
    places = dict(prefix=layout.prefix, conv1=layout.conv1, bn1=layout.bn1, conv2="conv2",
                  last=model.backbone.depths[-1] - 1)
    if container.startswith("head"):
        branch = 0 if match[1] is None else int(match[1]) + 1
        return places | dict(neck=layout.neck.format(branch=branch), classifier=layout.classifier.format(branch=branch))
    if not container.startswith((r"backbone\.stages", r"backbone\.attention")):
        return places
    stage, block = int(match[1]), int(match[2])
    attention = model.backbone.attention[stage]
    rank = sum(module is not None for module in attention[:block])
    place = block + rank if layout.in_line else block
    if model.backbone.stages[stage][block].within is not None:
        places["conv2"] = "conv2.spatial_conv3d"
    return places | dict(
        stage=layout.stages[stage], number=stage + 1, block=block, place=place,
        following=f"{layout.stages[stage]}.{place + 1}" if layout.in_line else f"NL_{stage + 1}.{rank}",
        pooled=".0" if getattr(attention[block], "sub_sample", False) else "")  # the pooling is torch's second module


def _neck(model: VideoReID) -> str:
    return model.layout.neck.format(branch=0)


def _same_rank(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Turns a 2-D kernel into a 3-D one of length 1 in time, or back, where the model has the other kind."""
    if array.ndim + 1 == len(shape) == 5:
        return array[:, :, None]
    if array.ndim == 5 and len(shape) == 4 and array.shape[2] == 1:
        return array[:, :, 0]
    return array


def _batch_norms(model: VideoReID) -> dict[str, BatchNorm]:
    """The batch normalisations by torch's names."""
    modules = {}
    for path, _ in nnx.to_flat_state(nnx.state(model, nnx.BatchStat)):
        if path[-1] == "mean":
            name, *_ = _name(model, ".".join(map(str, path)))
            modules[name.removesuffix(".running_mean")] = _variable(model, path[:-1])
    return modules


def _constants(model: VideoReID) -> dict[str, np.ndarray]:
    """What torch's state holds beside variables: batch counters, look-up tables, the frozen bias of CF-AAN's neck."""
    entries = _entries(model)
    constants = {f"{name}.{_COUNTER}": np.array(module.imported_batches, np.int64)
                 for name, module in _batch_norms(model).items()}
    if model.head.neck.bias is None:
        constants[f"{_neck(model)}.bias"] = np.zeros(entries[f"{_neck(model)}.weight"].shape, np.float32)
    for name, entry in entries.items():
        if name.endswith(".relative"):
            length = (entry.shape[1] + 1) // 2
            position = np.arange(length)
            table = position[:, None] - position[None, :] + length - 1
            constants[name.removesuffix("relative") + "flatten_index"] = table.reshape(-1).astype(np.int64)
    return constants
