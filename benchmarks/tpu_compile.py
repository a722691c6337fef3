"""The training and the evaluation step, compiled for a slice of TPUs on a machine without one: memory and exchanges.

    pip install libtpu
    JAX_PLATFORMS=cpu python -m benchmarks.tpu_compile --out=tpu.json [--slice=v5e:4x4] [--variant=cfaan]

The paper's recipe, 32 clips of 6 frames over all chips, in float32 and in bfloat16. Nothing is computed, so there is no
time of a step; the compiler's own takes minutes. Memory is that of one chip as the compiler plans it. Bytes exchanged
are those of the results of all exchanges of one step on one chip. That the state which a step gives fits what it takes,
so that no later step compiles again, is checked.
"""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import product

import jax
from jax.experimental import topologies
from jax.sharding import Mesh
from jax.stages import Compiled
from ml_collections import ConfigDict

from benchmarks import command, compiled, mars_config
from cfaan_jax import models
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.sharding import data_mesh
from cfaan_jax.runtime.text_tables import show

_STEPS: dict[str, Callable[[ConfigDict, Mesh], Compiled]] = {
    "training": compiled.training_step, "evaluation": compiled.evaluation_step}


def main(arguments: list[str] | None = None) -> None:
    parser = command("tpu_compile", __doc__)
    parser.add_argument("--slice", default="v5e:4x4", help="kind and layout of the chips (default v5e:4x4)")
    mars_config.add_flags(parser)
    flags = parser.parse_args(arguments)
    mesh, rows = chips(flags.slice), []
    config = mars_config.chosen(flags)
    about = {"slice": flags.slice, "chips": mesh.size, "kind": mesh.devices.flat[0].device_kind,
             "variant": flags.variant, "jax": jax.__version__}
    for numbers, name in product([flags.compute] if flags.compute else models.COMPUTE, _STEPS):
        print(f"compiling the {name} step in {numbers}, which can take many minutes", flush=True)
        config.model.compute = numbers
        rows.append(measure(name, config, mesh))
        flags.out.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")
    show(f"{flags.variant} on {mesh.size} x {about['kind']} ({flags.slice}), each chip",
         ["step", "numbers", "GiB in", "GiB on the way", "GiB held", "10^9 FLOPs", "exchanges", "MB exchanged",
          "seconds to compile"],
         [[row["step"], row["numbers"], *(f"{row[name] / 2**30:.2f}" for name in ("arguments", "temporary", "held")),
           f"{row['flops'] / 1e9:,.0f}", _listed(row["collectives"]),
           f"{sum(size for _, size in row['collectives'].values()) / 1e6:.1f}", f"{row['seconds']:.0f}"]
          for row in rows], mars_config.caveat(flags))


def chips(layout: str) -> Mesh:
    """The chips of a slice that need not be there, such as "v5e:4x4"; InputError where they cannot be described."""
    # Nothing here is to be found out about a TPU, and nothing to be kept from other processes.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        return data_mesh(topologies.get_topology_desc(topology_name=layout, platform="tpu").devices)
    except RuntimeError as error:
        reason = re.split(r"\.\s|\n", str(error))[0]
        raise InputError(f"--slice={layout}: no such TPUs can be compiled for here ({reason}); install libtpu, or give "
                         "a slice such as v5e:4x4") from None


def measure(step: str, config: ConfigDict, mesh: Mesh) -> dict:
    """A row of the JSON file: `compiled.Costs` of a step ("training" or "evaluation"), and how long it compiled."""
    began = time.perf_counter()
    found = compiled.costs(_STEPS[step](config, mesh))
    return {"step": step, "numbers": config.model.compute, **asdict(found), "seconds": time.perf_counter() - began}


def _listed(exchanges: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{count} {kind}" for kind, (count, _) in exchanges.items()) or "0"


if __name__ == "__main__":
    run_command(main)
