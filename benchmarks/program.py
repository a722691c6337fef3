"""The training and the evaluation step, compiled for GPUs or TPUs on a machine without one: what they would cost.

    bash launch/check_cuda.sh --out=h200.json [--variant=cfaan]
    JAX_PLATFORMS=cpu python -m benchmarks.program --target=v5e:4x4 --out=tpu.json      (after: pip install libtpu)

The paper's recipe, 32 clips of 6 frames over all devices, in float32 and in bfloat16. Nothing is computed; the compiler
takes minutes. Memory is that of one device as the compiler plans it. For a GPU every kernel of the program is counted,
with its bytes, and the time that they take one after another by the rule of `benchmarks.kernels`; its launches and what
a real GPU's autotuner would choose are not in it. For TPUs operations and bytes are the compiler's own count.
"""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product

import jax
from jax.experimental import topologies
from jax.sharding import Mesh
from jax.stages import Compiled
from ml_collections import ConfigDict

from benchmarks import command, compiled, mars_config, names
from benchmarks.kernels import KINDS, Card, Program
from cfaan_jax import models
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.sharding import data_mesh
from cfaan_jax.runtime.text_tables import show

_STEPS: dict[str, Callable[[ConfigDict, Mesh], Compiled]] = {
    "training": compiled.training_step, "evaluation": compiled.evaluation_step}


@dataclass(frozen=True)
class Gpu:
    """What the compiler is told of a GPU, and the speed that programs reach on it.

    Attributes:
        name, capability: of the card, and its CUDA compute capability, as in the compiler's own lists.
        cores, fpus: streaming multiprocessors, and float32 units in each.
        shared: bytes of shared memory of a core, and the most that one block may take.
        bandwidth, cache, memory: bytes a second, bytes, bytes.
        clock: GHz.
        reached: bytes a second and bfloat16 operations a second that good kernels reach.
    """

    name: str
    capability: str
    cores: int
    fpus: int
    shared: tuple[int, int]
    bandwidth: int
    cache: int
    memory: int
    clock: float
    reached: tuple[float, float]

    def config(self) -> str:
        """The `xla.gpu.TargetConfigProto` of the card."""
        return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_core: {self.shared[0]} shared_memory_per_block_optin: {self.shared[1]}
  core_count: {self.cores} fpus_per_core: {self.fpus} clock_rate_ghz: {self.clock}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: {self.bandwidth} l2_cache_size: {self.cache} device_memory_size: {self.memory}
  cuda_compute_capability {{ {self.capability} }} registers_per_core_limit: 65536 registers_per_block_limit: 65536
  device_vendor: "NVIDIA Corporation" name: "{self.name}" device_address_bits: 64
  driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0" dnn_version: "9.10.0"
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 patch: 0 }} device_description_str: "{self.name}"
"""


GPUS = {
    "h200": Gpu("NVIDIA H200", "major: 9 feature_extension: ACCELERATED_FEATURES", 132, 128, (233472, 232448),
                4_800_000_000_000, 52_428_800, 151_397_597_184, 1.98, (0.9 * 4.3e12, 0.6 * 790e12)),
    "a100": Gpu("NVIDIA A100-SXM4-80GB", "major: 8", 108, 64, (167936, 166912),
                2_039_000_000_000, 41_943_040, 85_899_345_920, 1.41, (0.9 * 1.8e12, 0.6 * 250e12)),
}


def main(arguments: list[str] | None = None) -> None:
    parser = command("program", __doc__)
    parser.add_argument("--target", default="h200", help=f"{', '.join(GPUS)}, or a slice of TPUs such as v5e:4x4 "
                                                         "(%(default)s)")
    parser.add_argument("--steps", type=names(_STEPS), default=tuple(_STEPS), help="training, evaluation (both)")
    parser.add_argument("--bandwidth", type=float, help="bytes a second that kernels reach (unset: the card's)")
    parser.add_argument("--speed", type=float,
                        help="operations a second that products of bfloat16 reach (unset: the card's)")
    parser.add_argument("--least", type=float, default=2e-6, help="seconds of the shortest kernel (%(default)s)")
    mars_config.add_flags(parser)
    flags = parser.parse_args(arguments)
    mesh, rows = devices(flags.target), []
    config, card = mars_config.chosen(flags), None
    if gpu := GPUS.get(flags.target):
        card = Card(flags.bandwidth or gpu.reached[0], flags.speed or gpu.reached[1], flags.least)
    else:
        compiled.refuse_parts(config)
    about = {"target": flags.target, "devices": mesh.size, "kind": mesh.devices.flat[0].device_kind,
             "variant": flags.variant, "remat": config.model.remat, "accumulate": config.train.accumulate,
             "jax": jax.__version__, "card": card and asdict(card)}
    for compute, step in product([flags.compute] if flags.compute else models.COMPUTE, flags.steps):
        print(f"compiling the {step} step in {compute}, which can take many minutes", flush=True)
        config.model.compute = compute
        # Products of float32 are TF32 there, which is half as fast as bfloat16.
        slower = card and replace(card, speed=card.speed / (1 if compute == "bfloat16" else 2))
        rows.append(measure(step, config, mesh, slower))
        flags.out.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")
    show(f"{flags.variant} on {mesh.size} x {about['kind']} ({flags.target}), each device",
         ["step", "compute", "GiB in", "GiB on the way", "GiB held", "exchanges", "MB exchanged", "kernels",
          "GB moved", "10^9 FLOPs", "ms by the count", "seconds to compile"], [_line(row) for row in rows],
         mars_config.caveat(flags))
    for row in rows:
        if card:
            show(f"{row['step']}, {row['compute']}", ["kind of kernel", "kernels", "GB moved", "ms by the count"],
                 [[kind, f"{count:,}", f"{size / 1e9:.1f}", f"{1e3 * seconds:.2f}"]
                  for kind, (count, size, seconds) in row["kinds"].items()])


def devices(target: str) -> Mesh:
    """The mesh of devices that need not be there; InputError where they cannot be described."""
    try:
        if gpu := GPUS.get(target):
            # What it would try out on a device, it takes from the compiler's models.
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
            described = topologies.get_topology_desc(platform="cuda", topology_name=target, topology="1x1x1",
                                                     target_config=gpu.config())
        else:
            os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # nothing here is to be found out about a TPU,
            os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # and nothing to be kept from other processes
            described = topologies.get_topology_desc(topology_name=target, platform="tpu")
    except (RuntimeError, ValueError) as error:
        reason = re.split(r"\.\s|\n", str(error))[0]
        needs = "run it by launch/check_cuda.sh" if target in GPUS else (
            f"install libtpu, or give a slice such as v5e:4x4, or one of {', '.join(GPUS)}")
        raise InputError(f"--target={target}: cannot be compiled for here ({reason}); {needs}") from None
    return data_mesh(described.devices)


def measure(step: str, config: ConfigDict, mesh: Mesh, card: Card | None) -> dict:
    """A row of the JSON file: memory and exchanges of a step, its kernels on a GPU, and how long it compiled."""
    began = time.perf_counter()
    program = _STEPS[step](config, mesh)
    row = {"step": step, "compute": config.model.compute, "seconds": time.perf_counter() - began,
           **compiled.memory(program), "collectives": compiled.collectives(program.as_text())}
    if card is None:
        analysis = program.cost_analysis()
        return row | {"flops": analysis["flops"], "traffic": analysis["bytes accessed"]}
    kernels = Program(program.as_text()).kernels
    kinds = {kind: [kernel for kernel in kernels if kernel.kind == kind] for kind in KINDS}
    return row | {
        "flops": sum(kernel.times * kernel.operations for kernel in kernels),
        "traffic": sum(kernel.times * kernel.size for kernel in kernels),
        "kernels": sum(kernel.times for kernel in kernels),
        "counted_seconds": sum(kernel.seconds(card) for kernel in kernels),
        "kinds": {kind: (sum(kernel.times for kernel in own), sum(kernel.times * kernel.size for kernel in own),
                         sum(kernel.seconds(card) for kernel in own)) for kind, own in kinds.items()}}


def _line(row: dict) -> list[str]:
    exchanges = ", ".join(f"{count} {kind}" for kind, (count, _) in row["collectives"].items()) or "0"
    return [row["step"], row["compute"], *(f"{row[name] / 2**30:.2f}" for name in ("arguments", "temporary", "held")),
            exchanges, f"{sum(size for _, size in row['collectives'].values()) / 1e6:.1f}",
            f"{row['kernels']:,}" if "kernels" in row else "", f"{row['traffic'] / 1e9:.1f}",
            f"{row['flops'] / 1e9:,.0f}", f"{1e3 * row['counted_seconds']:.1f}" if "kernels" in row else "",
            f"{row['seconds']:.0f}"]


if __name__ == "__main__":
    run_command(main)
