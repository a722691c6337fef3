"""Training step and evaluation forward of the networks of configs/mars.py: time, memory, share of the device's peak.

    python -m benchmarks.step --out=step.json [--variants=c2d,cfaan] [--compute=float32,bfloat16] [--batch=32] [--torch]

The input is drawn and lies on the device: nothing is read. All networks of one kind of number are timed in turns, so
that a busy moment meets all of them; a time is the median over the turns.

    step            the whole training step: augmentation, losses, gradients, Adam
    sent in         what the host needs to send a step off, before it may do something else
    forward         as evaluation runs it: normalisation and features
    peak            what the chip's maker states (cfaan_jax/train/utilisation.py); where that is not known, as on CPUs,
                    the rate of one large product of matrices measured in the same run
    memory          what the compiler reserves for one step: state, batch and everything on the way
    --torch         PyTorch's ResNet-50 with a last stride of 1 and one classifier, in channels-last memory and
                    float32, on as many threads, in the same turns: what c2d is held against
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import command, names, whole, wholes
from cfaan_jax.evaluate.features import features_of
from cfaan_jax.experiment.config import create_model
from cfaan_jax.experiment.recipes import VARIANTS, recipe
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.sharding import batch_sharding, data_mesh, put_on_mesh, replicated
from cfaan_jax.runtime.text_tables import show
from cfaan_jax.train import optim, utilisation
from cfaan_jax.train.step import Network, initial_state, make_step

CLASSES = 625  # training identities of MARS
DEFAULT = "c2d,nonlocal,axial_s1_none_1head,axial_s1_none,axial_s1_sinusoidal,axial_s1_relative,axial_s2,cfaan"
_TRACKLETS = 4  # clips of each identity, or one where the batch is smaller
_SIDE = 2048  # of the large product of matrices
# What JAX may do in float32: by default TF32 on GPUs and bfloat16 on TPUs.
_PRECISION = {"float32": "default", "float32_highest": "highest", "bfloat16": "default"}


@dataclass
class Timed:
    """Something to time.

    Attributes:
        run: does it once and waits for its end.
        seconds: of every turn.
    """

    run: Callable[[], object]
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Prepared:
    """One variant, compiled.

    Attributes:
        step, forward: what is timed.
        flops: of the forward pass of one clip.
        memory: bytes that the compiler reserves for a step.
        sent: seconds until the host had sent a step off, of every turn.
    """

    step: Timed
    forward: Timed
    flops: int
    memory: int
    sent: list[float] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    flags = parser.parse_args(arguments)
    if flags.torch and flags.width != 64:
        parser.error("--torch: PyTorch's ResNet-50 has no other width than 64")
    rows = []
    for compute in flags.compute:
        with jax.default_matmul_precision(_PRECISION[compute]):
            rows += measure(flags, compute)
    flags.out.write_text(json.dumps({"device": jax.devices()[0].device_kind, "devices": jax.device_count(),
                                     "threads": _threads(), "batch": flags.batch, "rows": rows}, indent=2) + "\n")
    size = f"{flags.batch} clips of {flags.clip_length} x {flags.image_size[0]} x {flags.image_size[1]}"
    show(f"{size}, {jax.device_count()} x {jax.devices()[0].device_kind}, {flags.steps} turns",
         ["variant", "numbers", "step, s", "sent in, ms", "of c2d's", "forward, clips/s", "step / forward",
          "memory, GiB", "GFLOP/s of a step", "of the peak", "peak"], [_line(row) for row in rows])
    for row in rows:
        if "of_torch" in row:
            step, forward = row["of_torch"]["step"], row["of_torch"]["forward"]
            print(f"{row['variant']} against PyTorch, frames per second: forward {forward:.2f}, step {step:.2f}")


def _parser():
    parser = command("step", __doc__)
    parser.add_argument("--variants", type=names(VARIANTS), default=DEFAULT,
                        help=f"of configs/mars.py (default {DEFAULT})")
    parser.add_argument("--compute", type=names(_PRECISION), default="float32",
                        help="some of float32 (whose products JAX computes in TF32 on GPUs, in bfloat16 on TPUs), "
                             "float32_highest (in full) and bfloat16 (default float32)")
    parser.add_argument("--batch", type=whole(), default=32, help="clips (default 32)")
    parser.add_argument("--width", type=whole(), default=64, help="width of the backbone (default 64)")
    parser.add_argument("--depths", type=wholes(4), default=(3, 4, 6, 3),
                        help="bottlenecks of its stages (default 3,4,6,3)")
    parser.add_argument("--image_size", type=wholes(2), default=(256, 128), help="(default 256,128)")
    parser.add_argument("--clip_length", type=whole(), default=6, help="frames (default 6)")
    parser.add_argument("--remat", action="store_true", help="with config.model.remat")
    parser.add_argument("--steps", type=whole(), default=10, help="turns (default 10)")
    parser.add_argument("--torch", action="store_true", help="time PyTorch's ResNet-50 as well (CPU)")
    return parser


def measure(flags, compute: str) -> list[dict]:
    """A row for each variant, in one kind of number of `_PRECISION`."""
    numbers = compute.removesuffix("_highest")
    networks = {variant: prepared(_config(variant, flags, numbers)) for variant in flags.variants}
    timed = [each for network in networks.values() for each in (network.forward, network.step)]
    other = None
    if flags.torch and numbers == "float32":
        from benchmarks.torch_resnet import passes  # PyTorch is none of the project's dependencies

        other = [Timed(run, []) for run in passes(flags.batch * flags.clip_length, flags.image_size, CLASSES,
                                                  flags.depths, _threads())]
        timed += other
    product = Timed(_product(numbers), [])
    for turn in range(flags.steps + 1):  # the first warms up
        for each in (product, *timed):
            began = time.perf_counter()
            each.run()
            if turn:
                each.seconds.append(time.perf_counter() - began)
    stated = None if numbers != compute else utilisation.peak_flops(jax.devices()[0].device_kind, compute)
    peak, source = (jax.device_count() * stated, "stated") if stated else (
        2 * _SIDE**3 / min(product.seconds), "measured product")
    base = networks["c2d"].step.median if "c2d" in networks else None
    rows = [_row(variant, network, compute, flags.batch, peak, source, base)
            for variant, network in networks.items()]
    if other is not None:
        for row in rows:
            row["of_torch"] = {"forward": other[0].median / networks[row["variant"]].forward.median,
                               "step": other[1].median / row["seconds_per_step"]}
    return rows


def _row(variant: str, network: Prepared, compute: str, batch: int, peak: float, source: str,
         base: float | None) -> dict:
    step, forward = network.step.median, network.forward.median
    reached = utilisation.FORWARDS_IN_A_STEP * network.flops * batch / step
    measured = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"variant": variant, "compute": compute, "seconds_per_step": step, "of_c2d": base and step / base,
            "forward_clips_per_second": batch / forward, "step_per_forward": step / forward,
            "memory_bytes": network.memory, "device_peak_bytes_so_far": measured, "flops_per_second": reached,
            "seconds_to_send": statistics.median(network.sent[1:]) if network.sent[1:] else None,
            "of_peak": reached / peak, "forward_of_peak": network.flops * batch / forward / peak, "peak": source,
            "all_seconds": {"step": network.step.seconds, "forward": network.forward.seconds}}


def _line(row: dict) -> list[str]:
    of_c2d = "" if row["of_c2d"] is None else f"{row['of_c2d']:.2f}"
    sent = "" if row["seconds_to_send"] is None else f"{1e3 * row['seconds_to_send']:.1f}"
    return [row["variant"], row["compute"], f"{row['seconds_per_step']:.3f}", sent, of_c2d,
            f"{row['forward_clips_per_second']:.1f}", f"{row['step_per_forward']:.2f}",
            f"{row['memory_bytes'] / 2**30:.2f}", f"{row['flops_per_second'] / 1e9:,.0f}", f"{row['of_peak']:.1%}",
            row["peak"]]


def _config(variant: str, flags, compute: str) -> ConfigDict:
    config = recipe(variant)
    config.model.update(pretrained="none", width=flags.width, depths=flags.depths, compute=compute, remat=flags.remat)
    tracklets = _TRACKLETS if flags.batch % _TRACKLETS == 0 else 1
    config.data.update(clip_length=flags.clip_length, image_size=flags.image_size, tracklets=tracklets,
                       identities=flags.batch // tracklets)
    return config


def prepared(config: ConfigDict) -> Prepared:
    """Compiles step and forward of a config's network and gives them something to work on."""
    mesh, model = data_mesh(), create_model(config, CLASSES)
    clips, clip_size = config.data.identities * config.data.tracklets, (config.data.clip_length,
                                                                        *config.data.image_size)
    where, rng = batch_sharding(mesh, clips), np.random.default_rng(0)
    batch = put_on_mesh({"frames": rng.integers(0, 256, (clips, *clip_size, 3), np.uint8),
                         "rectangles": np.tile(np.int32([0, clip_size[1], 0, clip_size[2]]), (clips, clip_size[0], 1)),
                         "labels": np.repeat(np.arange(config.data.identities, dtype=np.int32), config.data.tracklets)},
                        where)
    features = features_of(model, replicated(mesh))
    flops = utilisation.forward_flops(model, clip_size)
    model.train()
    optimizer = optim.create(config.optim, steps_per_epoch=78)
    state = put_on_mesh(initial_state(config, CLASSES, optimizer, model), replicated(mesh))
    compiled = make_step(Network.of(model), optimizer, config, mesh).lower(state, batch).compile()
    memory, held, sent = compiled.memory_analysis(), [state], []

    def step() -> None:
        began = time.perf_counter()
        held[0], metrics = compiled(held[0], batch)
        sent.append(time.perf_counter() - began)
        jax.block_until_ready(metrics)

    def forward() -> None:
        jax.block_until_ready(features(batch["frames"], batch["rectangles"]))

    reserved = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return Prepared(Timed(step, []), Timed(forward, []), flops, reserved, sent)


def _product(compute: str) -> Callable[[], object]:
    """A product of two square matrices, `2 * _SIDE**3` operations."""
    one = jnp.ones((_SIDE, _SIDE), compute)
    multiply = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(multiply(one, one))


def _threads() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    run_command(main)
