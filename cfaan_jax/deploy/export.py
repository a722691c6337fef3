"""A network as files for other programs: StableHLO, ONNX, weights under torch's names, and a description.

`network.stablehlo` runs with jax and flatbuffers alone, on CPUs, NVIDIA GPUs and TPUs, on any number of clips:

    network = jax.export.deserialize(bytearray(pathlib.Path("network.stablehlo").read_bytes()))
    features = network.call(frames, rectangles)
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jax import export
from ml_collections import ConfigDict

from cfaan_jax import weights
from cfaan_jax.data.augment import IMAGENET_MEAN, IMAGENET_STD
from cfaan_jax.deploy import exported
from cfaan_jax.deploy.exported import Description, ExportedNetwork
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate.evaluate import name_of
from cfaan_jax.evaluate.features import features_of
from cfaan_jax.models import VideoReID
from cfaan_jax.models.heads import masked_average
from cfaan_jax.runtime import distributed, lock
from cfaan_jax.runtime.files import atomic_folder

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-4  # of the largest value of a feature
_CLIPS = 3  # in the comparison of features


def write(model: VideoReID, config: ConfigDict, folder: str | Path, which: str) -> Path:
    """Writes the files of a network, after all of them gave the network's own features on random clips.

    The first of several processes does it. Without onnx and onnxruntime, or a conversion, a line says why there is no
    `network.onnx`. An older export is replaced; nothing is left of an unfinished one. `which` names the weights.

    Raises:
        InputError: features from a file differ from those of the network by more than `TOLERANCE`, another process
            writes there, or the folder holds other files.
    """
    folder = Path(folder)
    with distributed.exclusive(lock.path_for(folder), "exports"):
        distributed.run_in_first_process(lambda: _check_folder(folder))
        distributed.run_in_first_process(lambda: _write(model, describe(model, config, which), folder))
    return folder


def _check_folder(folder: Path) -> None:
    """InputError for a folder that holds other files than an export, which writing would delete."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    own = {exported.NETWORK, exported.WEIGHTS, exported.ONNX, exported.DESCRIPTION, exported.SAVED_MODEL}
    if others := names - own:
        raise InputError(f"{folder}: holds {min(others)}, which is not part of an export and would be lost; move it")
    if exported.SAVED_MODEL in names:
        print(f"{folder / exported.SAVED_MODEL} is deleted with the older export")


def _write(model: VideoReID, description: Description, folder: Path) -> None:
    frames, rectangles = random_clips(description)
    expected = np.asarray(features_of(model)(frames, rectangles))
    with atomic_folder(folder) as unfinished:
        content = stablehlo(model, description)
        check_features(folder / exported.NETWORK, ExportedNetwork(content, description)(frames, rectangles), expected)
        (unfinished / exported.NETWORK).write_bytes(content)
        about = json.dumps(asdict(description) | _interface(description)
                           | {exported.CHECKSUM: exported.checksum(content)}, indent=2) + "\n"
        (unfinished / exported.WEIGHTS).write_bytes(safetensors.numpy.save(weights.to_torch(model)))
        reloaded = _reloaded(model, unfinished / exported.WEIGHTS)
        check_features(folder / exported.WEIGHTS, features_of(reloaded)(frames, rectangles), expected)
        content, reason = onnx(model, description, about)
        if content is None:
            print(f"{exported.ONNX} is left out: {reason}")
        else:
            check_features(folder / exported.ONNX, _run_onnx(content, frames, rectangles), expected)
            (unfinished / exported.ONNX).write_bytes(content)
        (unfinished / exported.DESCRIPTION).write_text(about)


def describe(model: VideoReID, config: ConfigDict, which: str) -> Description:
    """What a program must know to use the files; arguments as for `write`."""
    return Description(
        network=name_of(config.model), weights=which, clip_length=config.data.clip_length, any_length=model.any_length,
        image_size=tuple(config.data.image_size), masks=model.head_settings.pool is masked_average,
        feature_size=model.feature_size, branches=model.head_settings.branches, clips=config.eval.clips,
        distance=config.eval.distance)


def stablehlo(model: VideoReID, description: Description) -> bytes:
    """A serialised `jax.export.Exported` for `PLATFORMS`, any number of clips, and any length if the network is."""
    clips, length = export.symbolic_shape("clips, frames" if model.any_length else f"clips, {description.clip_length}")
    network: Callable = jax.jit(features_of(model))
    return export.export(network, platforms=PLATFORMS)(*_inputs(clips, length, description).values()).serialize()


def onnx(model: VideoReID, description: Description, about: str) -> tuple[bytes | None, str]:
    """An ONNX file for any number of clips of `description.clip_length` frames, and ""; or None, and the reason.

    `about` becomes its metadata.
    """
    try:
        import onnxruntime  # noqa: F401 - an ONNX file is written only after it ran

        from cfaan_jax.deploy import jaxpr_to_onnx
    except ImportError as error:
        return None, f"it needs {error.name}; pip install -r data_prep/requirements-onnx.txt"
    (clips,) = export.symbolic_shape("clips")
    inputs = _inputs(clips, description.clip_length, description)
    try:
        return jaxpr_to_onnx.convert(features_of(model), clips, inputs, "features", {"description": about}), ""
    except jaxpr_to_onnx.NotConverted as error:
        return None, f"the network has {error}, for which there is no conversion"


def _inputs(clips: int, length: int, description: Description) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the inputs; the number of clips and their length may be symbols."""
    return {"frames": jax.ShapeDtypeStruct((clips, length, *description.image_size, 3), jnp.uint8),
            "rectangles": jax.ShapeDtypeStruct((clips, length, 4), jnp.int32)}


def _run_onnx(content: bytes, frames: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    import onnxruntime
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [features] = session.run(None, {"frames": frames, "rectangles": rectangles})
    return features


def _reloaded(model: VideoReID, path: Path) -> VideoReID:
    """A network like this one with the weights of a file."""
    graphdef, state = nnx.split(model)
    copy = nnx.merge(graphdef, jax.tree.map(jnp.zeros_like, state))
    weights.load_torch(copy, path)
    return copy


def random_clips(description: Description) -> tuple[np.ndarray, np.ndarray]:
    """Random frames and rectangles for a comparison of features."""
    rng, (height, width) = np.random.default_rng(0), description.image_size
    shape = (_CLIPS, description.clip_length)
    frames = rng.integers(0, 256, (*shape, height, width, 3), dtype=np.uint8)
    ends = (np.sort(rng.integers(0, length + 1, (*shape, 2)), axis=-1) for length in (height, width))
    return frames, np.concatenate(list(ends), axis=-1).astype(np.int32)


def check_features(path: Path, features: jax.Array, expected: np.ndarray) -> None:
    """Raises InputError for features from a file that differ from those of the network by more than `TOLERANCE`."""
    difference = np.abs(np.asarray(features) - expected).max() / np.abs(expected).max()
    if not difference <= TOLERANCE:  # or it is NaN
        raise InputError(f"{path} is not written: its features differ from those of the network by {difference:.1e} of "
                         f"the largest value, more than {TOLERANCE:.0e}; please report this with the config")


def _interface(description: Description) -> dict:
    """Inputs and output in words."""
    length = "frames" if description.any_length else description.clip_length
    shape = ["clips", length, *description.image_size, 3]
    masks = "the rest is padding, which is not looked at" if description.masks else "not looked at by this network"
    parts = "" if description.branches == 1 else (
        f", then each of its {description.branches} equal parts divided by its Euclidean length")
    return {
        "inputs": [
            {"name": "frames", "dtype": "uint8", "shape": shape,
             "meaning": "RGB, resized by Pillow's bilinear filter; normalised inside the network"},
            {"name": "rectangles", "dtype": "int32", "shape": ["clips", length, 4],
             "meaning": f"(y0, y1, x0, x1) in pixels, end exclusive, of the real pixels of each frame; {masks}"}],
        "normalisation inside": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "of": "values between 0 and 1"},
        "output": {"dtype": "float32", "shape": ["clips", description.feature_size]},
        "feature of a tracklet": f"the mean over its clips, each counted by its frames{parts}",
    }
