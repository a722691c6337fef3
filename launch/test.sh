#!/usr/bin/env bash
# Sets up an environment, then checks style and types and runs the tests.
#
#   bash launch/test.sh [--fast] [PYTEST ARGUMENTS...]
#
# --fast leaves out the tests that are marked slow. Other arguments go to pytest: bash launch/test.sh tests/metrics -x

case "${1-}" in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
install requirements.txt data_prep/requirements-{lsvid,onnx,ray}.txt tests/requirements{,-torch}.txt \
    --no-deps data_prep/requirements-video.txt --no-deps data_prep/requirements-ultralytics.txt
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
chosen=()
if [ "${1-}" = --fast ]; then chosen=(-m "not slow"); shift; fi
ruff check .
mypy
# A file of tests to each core, in order of their names: the longest ones do not come last.
python -m pytest -n logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder ${chosen[@]+"${chosen[@]}"} "$@"
