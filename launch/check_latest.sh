#!/usr/bin/env bash
# Installs the newest releases that the requirements allow, without the pinned versions, into .venv-latest, made anew each
# time; prints what it got and runs the tests with it. For a job that runs every week: a release that breaks a test gets an
# upper bound in the requirement file that names the package, until the cause is mended.
#
#   bash launch/check_latest.sh [TESTS...]
#
# Arguments go to pytest. Ultralytics and PyTorch, which are pinned for it, are left out.

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export CFAAN_VENV="$here/.venv-latest" CFAAN_CONSTRAINTS=/dev/null
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
rm -rf "$venv"
install requirements.txt data_prep/requirements-{lsvid,onnx,ray}.txt tests/requirements.txt \
    --no-deps data_prep/requirements-video.txt
python -m pip list --disable-pip-version-check
CFAAN_VENV=none exec bash launch/test.sh "$@"
