"""An exported network as a TensorFlow SavedModel.

    pip install tensorflow
    python -m cfaan_jax.saved_model runs/mars/export-last

writes the folder `saved_model` beside the files that `--mode=export` wrote, by JAX's `jax2tf`. It takes any number of
clips, on CPUs, NVIDIA GPUs and TPUs:

    network = tf.saved_model.load("runs/mars/export-last/saved_model")
    features = network.features(frames, rectangles)

The folder is kept only if TensorFlow computes the network's own features from it, on random clips.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from cfaan_jax.deploy.export import check_features, random_clips
from cfaan_jax.deploy.exported import SAVED_MODEL, ExportedNetwork
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.runtime.files import atomic_folder


def write(folder: str | Path) -> Path:
    """Writes a SavedModel into the folder of an export, in place of an older one; returns its own folder.

    InputError for no export, no TensorFlow, one too old for this jax, or features off by over `export.TOLERANCE`.
    """
    network, path = ExportedNetwork.open(folder), Path(folder) / SAVED_MODEL
    tensorflow, converted = _converted(network)
    frames, rectangles = random_clips(network.description)
    with atomic_folder(path) as unfinished:
        tensorflow.saved_model.save(converted, unfinished)
        try:
            features = tensorflow.saved_model.load(unfinished).features(frames, rectangles).numpy()
        except tensorflow.errors.InvalidArgumentError as error:  # it does not know the operations of a newer jax
            raise InputError(f"{path} is not written: TensorFlow {tensorflow.__version__} cannot run programs of jax "
                             f"{jax.__version__}; write it with an older jax, such as 0.10") from error
        check_features(path, features, np.asarray(network(frames, rectangles)))
    return path


def _converted(network: ExportedNetwork):
    """TensorFlow, imported only here, and a module of it with the function `features`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # at its default TensorFlow logs every cluster it compiles
    try:
        import tensorflow
        from jax.experimental import jax2tf
    except ImportError as error:
        raise InputError(f"{SAVED_MODEL} needs {error.name}; pip install tensorflow, beside a jax that has "
                         "jax2tf") from error
    tensorflow.config.set_visible_devices([], "GPU")  # JAX holds their memory
    shapes = [aval.shape for aval in network.exported.in_avals]
    function = jax2tf.convert(network.exported.call, with_gradient=False,
                              polymorphic_shapes=[str(shape).replace("'", "") for shape in shapes],
                              native_serialization_platforms=network.exported.platforms)
    signature = [tensorflow.TensorSpec([size if isinstance(size, int) else None for size in shape], aval.dtype, name)
                 for shape, aval, name in zip(shapes, network.exported.in_avals, ("frames", "rectangles"), strict=True)]
    module = tensorflow.Module()
    module.features = tensorflow.function(function, autograph=False, input_signature=signature)
    return tensorflow, module


def main(arguments: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m cfaan_jax.saved_model", __doc__)
    parser.add_argument("folder", type=Path, help="folder that --mode=export wrote")
    print(f"written: {write(parser.parse_args(arguments).folder)}")
