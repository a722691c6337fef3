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
from cfaan_jax.deploy.exported import (
    CHECKSUM,
    DESCRIPTION,
    NETWORK,
    ONNX,
    SAVED_MODEL,
    WEIGHTS,
    Description,
    ExportedNetwork,
    checksum,
)
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate.evaluate import name_of
from cfaan_jax.evaluate.features import features_of
from cfaan_jax.models import VideoReID
from cfaan_jax.models.heads import masked_average
from cfaan_jax.runtime import distributed, lock
from cfaan_jax.runtime.files import atomic_folder

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-4  # of the largest value of a feature
_CLIPS = 3  # that an export is compared on


def write(model: VideoReID, config: ConfigDict, folder: str | Path, which: str) -> Path:
    """Writes the files of a network, after each was read back and gave the network's own features on random clips.

    Of several processes the first one alone does it. Where `network.onnx` cannot be had, a line says why.

    Args:
        model: the network.
        config: with which it was trained.
        folder: takes the place of an older one; nothing is left of one that cannot be finished.
        which: what its weights are called.

    Returns:
        the folder.

    Raises:
        InputError: features from a file differ from those of the network by more than `TOLERANCE`, another process
            writes there, or something else lies there.
    """
    folder = Path(folder)
    with distributed.exclusive(lock.path_for(folder), "exports"):
        distributed.run_on_first_process(lambda: _check_folder(folder))
        distributed.run_on_first_process(lambda: _write(model, describe(model, config, which), folder))
    return folder


def _check_folder(folder: Path) -> None:
    """InputError for a folder that holds anything else than an export, which writing one would delete."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if others := there - {NETWORK, WEIGHTS, ONNX, DESCRIPTION, SAVED_MODEL}:
        raise InputError(f"{folder}: holds {min(others)}, which is no part of an export; move it away, not to lose it")
    if SAVED_MODEL in there:
        print(f"{folder / SAVED_MODEL} belongs to the export that was there and goes with it")


def _write(model: VideoReID, description: Description, folder: Path) -> None:
    frames, rectangles = random_clips(description)
    expected = np.asarray(features_of(model)(frames, rectangles))
    with atomic_folder(folder) as unfinished:
        content = stablehlo(model, description)
        described = asdict(description) | _in_words(description) | {CHECKSUM: checksum(content)}
        described = json.dumps(described, indent=2) + "\n"
        compare(folder / NETWORK, ExportedNetwork(content, description)(frames, rectangles), expected)
        (unfinished / NETWORK).write_bytes(content)
        (unfinished / WEIGHTS).write_bytes(safetensors.numpy.save(weights.to_torch(model)))
        compare(folder / WEIGHTS, features_of(_filled(model, unfinished / WEIGHTS))(frames, rectangles), expected)
        content, reason = onnx(model, description, described)
        if content is None:
            print(f"{ONNX} is left out: {reason}")
        else:
            compare(folder / ONNX, _in_onnxruntime(content, frames, rectangles), expected)
            (unfinished / ONNX).write_bytes(content)
        (unfinished / DESCRIPTION).write_text(described)


def describe(model: VideoReID, config: ConfigDict, which: str) -> Description:
    """What a program must know beside the file of a network; arguments as for `write`."""
    return Description(
        network=name_of(config.model), weights=which, clip_length=config.data.clip_length, any_length=model.any_length,
        image_size=tuple(config.data.image_size), masks=model.head_settings.pool is masked_average,
        feature_size=model.feature_size, branches=model.head_settings.branches, clips=config.eval.clips,
        distance=config.eval.distance)


def stablehlo(model: VideoReID, description: Description) -> bytes:
    """The network, its weights in it, as a serialised `jax.export.Exported` for all of `PLATFORMS`.

    It takes any number of clips, and clips of any length where the network does.
    """
    clips, length = export.symbolic_shape("clips, frames" if model.any_length else f"clips, {description.clip_length}")
    network: Callable = jax.jit(features_of(model))
    return export.export(network, platforms=PLATFORMS)(*_inputs(clips, length, description).values()).serialize()


def onnx(model: VideoReID, description: Description, described: str) -> tuple[bytes | None, str]:
    """The network, its weights in it, as an ONNX file for any number of clips of `description.clip_length` frames.

    Args:
        model, description: of the network.
        described: goes into the file.

    Returns:
        the file, and ""; or None, and why there can be none.
    """
    try:
        import onnxruntime  # noqa: F401 - what is not tried is not written

        from cfaan_jax.deploy import jaxpr_to_onnx
    except ImportError as error:
        return None, f"it needs {error.name}; pip install -r data_prep/requirements-onnx.txt"
    (clips,) = export.symbolic_shape("clips")
    inputs = _inputs(clips, description.clip_length, description)
    try:
        return jaxpr_to_onnx.convert(features_of(model), clips, inputs, "features", {"description": described}), ""
    except jaxpr_to_onnx.NotConverted as error:
        return None, f"the network has {error}, for which there is no conversion"


def _inputs(clips: int, length: int, description: Description) -> dict[str, jax.ShapeDtypeStruct]:
    """What a network takes, for so many clips of so many frames; both may be symbols."""
    return {"frames": jax.ShapeDtypeStruct((clips, length, *description.image_size, 3), jnp.uint8),
            "rectangles": jax.ShapeDtypeStruct((clips, length, 4), jnp.int32)}


def _in_onnxruntime(content: bytes, frames: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    import onnxruntime
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"frames": frames, "rectangles": rectangles})
    return found


def _filled(model: VideoReID, path: Path) -> VideoReID:
    """A network like this one whose weights come from a file alone."""
    graphdef, state = nnx.split(model)
    filled = nnx.merge(graphdef, jax.tree.map(jnp.zeros_like, state))
    weights.load_torch(filled, path)
    return filled


def random_clips(description: Description) -> tuple[np.ndarray, np.ndarray]:
    """Frames and rectangles as a network takes them, to compare features on."""
    rng, (height, width) = np.random.default_rng(0), description.image_size
    shape = (_CLIPS, description.clip_length)
    frames = rng.integers(0, 256, (*shape, height, width, 3), dtype=np.uint8)
    ends = (np.sort(rng.integers(0, length + 1, (*shape, 2)), axis=-1) for length in (height, width))
    return frames, np.concatenate(list(ends), axis=-1).astype(np.int32)


def compare(path: Path, found: jax.Array, expected: np.ndarray) -> None:
    """Raises InputError where features from a file are not those of the network, within `TOLERANCE`."""
    difference = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    if not difference <= TOLERANCE:  # nor where it is NaN
        raise InputError(f"{path} is not written: its features differ from those of the network by {difference:.1e} of "
                         f"the largest value, more than {TOLERANCE:.0e}; please report this with the config")


def _in_words(description: Description) -> dict:
    """What the numbers of a description do not say."""
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
