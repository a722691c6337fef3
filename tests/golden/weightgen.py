"""Deterministic weights for the full-model fixtures (numpy only, no torch needed).

Every entry of a state_dict is drawn on its own, from its NAME, so the order of the keys does not
matter and a subset can be drawn alone:

    seed = crc32(utf8(name)) + salt * 2**32
    rng  = numpy.random.Generator(numpy.random.PCG64(seed))

and then exactly one call to the generator, float64, cast to float32 at the end
(C order, shape = the torch shape):

    name ends with            value
    ------------------------  -----------------------------------------------------------------
    num_batches_tracked       int64 zero
    flatten_index             not drawn: it is a constant look-up table, see `flatten_index`
    bottleneck.bias           zeros (the reference freezes it at zero)
    running_mean              0.1 * standard_normal
    running_var               (0.5 + random) * g_var
    relative                  standard_normal * sqrt(2 / shape[0])
    weight with ndim >= 2     standard_normal * sqrt(2 / fan_in) * g,  fan_in = prod(shape[1:])
    weight with ndim == 1     (0.75 + 0.5 * random) * g            (BatchNorm scale)
    bias                      0.1 * standard_normal

The gains g / g_var are in `gain` / `var_gain`; they only keep activations and attention
logits in a sane range.
"""
import zlib

import numpy as np


def gain(name):
    """Factor on `weight` entries (biases are not scaled)."""
    if name.endswith('.bn3.weight'):
        return 0.3                      # residual branches of the bottlenecks
    if name.endswith('.qkv_transform.weight') or name.endswith('.conv_up.weight'):
        return 0.7
    if '.theta.' in name or '.phi.' in name:
        return 0.05                     # keeps the logits of the non-local softmax small
    if '.g.' in name:
        return 0.7
    if name == 'classifier.weight':
        return 0.1
    return 1.0


def var_gain(name):
    """Factor on `running_var` entries."""
    if name.endswith('.bn_qkv.running_var'):
        # axial_gran.<n>: n % 3 == 0 is the first axis of its scale and sees the backbone features
        return 40.0 if int(name.split('.axial_gran.')[1].split('.')[0]) % 3 == 0 else 1.5
    if name.endswith('.bn_similarity.running_var'):
        return 8.0
    if name.endswith('.W.1.running_var'):
        return 50.0
    return 1.0


def flatten_index(length):
    """Constant buffer of an axial attention of that length: entry [i*length + j] = i - j + length - 1."""
    i = np.arange(length)
    return (i[:, None] - i[None, :] + length - 1).reshape(-1).astype(np.int64)


def draw(name, shape, salt=0):
    shape = tuple(int(s) for s in shape)
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
        return np.zeros(shape, np.int64)
    if leaf == 'flatten_index':
        return flatten_index(int(round(np.sqrt(shape[0]))))
    if name == 'bottleneck.bias':
        return np.zeros(shape, np.float32)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode('utf-8')) + salt * 2 ** 32))
    if leaf == 'running_mean':
        out = 0.1 * rng.standard_normal(shape)
    elif leaf == 'running_var':
        out = (0.5 + rng.random(shape)) * var_gain(name)
    elif leaf == 'relative':
        out = rng.standard_normal(shape) * np.sqrt(2.0 / shape[0])
    elif leaf == 'weight' and len(shape) >= 2:
        out = rng.standard_normal(shape) * (np.sqrt(2.0 / np.prod(shape[1:])) * gain(name))
    elif leaf == 'weight':
        out = (0.75 + 0.5 * rng.random(shape)) * gain(name)
    elif leaf == 'bias':
        out = 0.1 * rng.standard_normal(shape)
    else:
        raise KeyError(name)
    return out.astype(np.float32)


def draw_all(shapes, salt=0):
    """shapes: {torch name: shape} -> {torch name: array}"""
    return {k: draw(k, s, salt) for k, s in shapes.items()}


def clip(seed, shape):
    """Input clip (batch, frames, 3, height, width), float32, standard normal."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)
