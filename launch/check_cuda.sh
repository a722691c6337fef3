#!/usr/bin/env bash
# Compiles the training and the evaluation step for an NVIDIA GPU on a machine without one, and counts their kernels.
#
#   bash launch/check_cuda.sh --out=h200.json [--target=a100] [--variant=c2d] [--compute=bfloat16] [...]
#
# The flags are those of python -m benchmarks.program. Its environment is .venv-cuda, or CFAAN_VENV.

case "${1-}" in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
export CFAAN_VENV="${CFAAN_VENV:-.venv-cuda}"
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
install requirements.txt --no-deps launch/requirements-cuda.txt
export JAX_PLATFORMS=cpu
attended python -m benchmarks.program "$@"
