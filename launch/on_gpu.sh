#!/usr/bin/env bash
# The first run on a GPU, within 8 minutes: whether the numbers are right, how fast, how much memory, and whether it learns.
#
#   bash launch/on_gpu.sh [--out=runs/on_gpu] [--minutes=8] [--steps=60] [--identities=32] [REHEARSAL ARGUMENTS...]
#
# It runs with the python and the jax of this machine, unless CFAAN_VENV names an environment. Every part has a log and a
# JSON file under --out, and a line in summary.txt; one that fails or takes too long does not keep the others from running.
# Other arguments go to python -m benchmarks.mars_rehearsal. A rehearsal of all this on a CPU:
#
#   JAX_PLATFORMS=cpu bash launch/on_gpu.sh --steps=4 --identities=8 --width=8 --depths=1,1,1,1 --image_size=64,32

export CFAAN_VENV="${CFAAN_VENV:-none}"
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

out=runs/on_gpu minutes=8 steps=60 seed=0 identities=32 more=()
for argument in "$@"; do
    case "$argument" in
        --out=*) out="${argument#*=}" ;;
        --minutes=*) minutes="${argument#*=}" ;;
        --steps=*) steps="${argument#*=}" ;;
        --identities=*) identities="${argument#*=}" ;;
        -h | --help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) more+=("$argument") ;;
    esac
done
if [ "$CFAAN_VENV" != none ]; then install requirements.txt tests/requirements.txt; fi
source launch/synthetic.sh
mkdir -p "$out"
export JAX_COMPILATION_CACHE_DIR="$PWD/$out/compiled" XLA_PYTHON_CLIENT_PREALLOCATE=false
deadline=$((SECONDS + 60 * minutes))

part() { # part NAME SECONDS COMMAND...: its end goes to summary.txt
    local name="$1" limit="$2" left=$((deadline - SECONDS)) start=$SECONDS status=0
    shift 2
    if [ "$left" -lt "$limit" ]; then limit=$((left > 1 ? left : 1)); fi
    timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
    printf '%-24s %4d s  %s\n' "$name" $((SECONDS - start)) \
        "$(case $status in 0) echo done ;; 124 | 137) echo "stopped after $limit s" ;; *) echo "failed with status $status" ;; esac)" |
        tee -a "$out/summary.txt"
}
rehearsal() { # rehearsal NAME SECONDS VARIANT COMPUTE MORE...
    part "$1" "$2" python -m benchmarks.mars_rehearsal --out="$out/$1.json" --records="$out/mars_size" --variant="$3" \
        --compute="$4" ${more[@]+"${more[@]}"} "${@:5}"
}
learns() {
    build --out="$out/records/raw" --detector=none
    run c2d learns raw --mode=evaluate --config.eval.weights=untrained
    run c2d learns raw
}

: >"$out/summary.txt"
# First what needs little of the GPU, side by side: golden arrays, records (made by a rehearsal on the CPU), learning.
part golden 240 python -m benchmarks.golden --out="$out/golden.json" &
XLA_FLAGS="" JAX_DEFAULT_MATMUL_PRECISION=highest part golden_tests 200 python -m pytest -q tests/models/test_axial.py \
    tests/models/test_heads.py tests/models/test_non_local.py tests/train/test_losses.py -p no:cacheprovider \
    -n 4 --dist=loadfile &
export -f build run attended learns
export out seed identities
part learns 240 bash -euo pipefail -c learns &
JAX_PLATFORMS=cpu XLA_FLAGS="" part records 200 python -m benchmarks.mars_rehearsal --out="$out/records.json" \
    --records="$out/mars_size" --variant=c2d --width=8 --depths=1,1,1,1 --image_size=64,32 --steps=1 --batches=1
# Then all programs are compiled side by side; what is measured afterwards finds them.
for compute in bfloat16 float32; do
    for variant in cfaan c2d; do
        rehearsal "compile_${variant}_$compute" 270 $variant $compute --steps=1 --batches=1 &
    done
done
wait
for compute in bfloat16 float32; do
    for variant in c2d cfaan; do
        rehearsal "${variant}_$compute" 120 $variant $compute --steps="$steps" --batches=20 \
            --trace="$out/trace_${variant}_$compute"
    done
done
tail -n +1 "$out"/{learns,golden}.log "$out"/{c2d,cfaan}_{bfloat16,float32}.log
echo "everything is under $out; summary.txt has a line for each part"
if grep -q -E "failed|stopped after" "$out/summary.txt"; then exit 1; fi
