# shellcheck shell=bash
# Sourced by the other scripts. `install FILE... [--no-deps FILE]` makes a virtual environment with the pinned requirements
# and puts it first on PATH; it does nothing more when an environment made from the same requirements is already there.
# `attended COMMAND...` runs what lasts, so that a signal to the script stops it.
#
#   CFAAN_VENV     where the environment lies        (default: .venv in the repository; none: use the current one as it is,
#                  for instance on a machine that has its own build of jax)
#   CFAAN_CONSTRAINTS
#                  which versions packages get     (default: launch/constraints.txt; /dev/null: the newest that are allowed)
#   CFAAN_PYTHON   which interpreter it is made from (default: the first of python3, python3.13, python3.12, python3.11
#                  that fits)

set -euo pipefail
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$repository"
venv="${CFAAN_VENV:-$repository/.venv}"
constraints="${CFAAN_CONSTRAINTS:-launch/constraints.txt}"

fits() { "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    local candidate candidates="python3 python3.13 python3.12 python3.11"
    for candidate in ${CFAAN_PYTHON:-$candidates}; do
        if fits "$candidate"; then echo "$candidate"; return; fi
    done
    echo "error: no Python 3.11, 3.12 or 3.13 among: ${CFAAN_PYTHON:-$candidates}" >&2
    echo "       install one, or name it: CFAAN_PYTHON=/path/to/python3.12 bash $0" >&2
    return 1
}

# Installs the requirement files given, once for each content of those files, and activates the environment. The file behind
# --no-deps lists packages together with all that they need.
install() {
    if [ "$venv" = none ]; then return; fi
    local stamp wanted python files=() alone=() file
    while [ $# -gt 0 ]; do
        if [ "$1" = --no-deps ]; then alone+=("$2"); shift 2; else files+=("$1"); shift; fi
    done
    wanted="$(cat "${files[@]}" ${alone[@]+"${alone[@]}"} "$constraints" | sha256sum | cut -c1-16)"
    stamp="$venv/installed-$wanted"
    if [ ! -f "$stamp" ]; then
        python="$(find_python)"
        echo "setting up $venv with $("$python" --version)"
        "$python" -m venv "$venv"
        pip() { attended "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
        pip -c "$constraints" "${files[@]/#/--requirement=}"
        for file in ${alone[@]+"${alone[@]}"}; do pip --no-deps "--requirement=$file"; done
        unset -f pip
        touch "$stamp"
    fi
    export PATH="$venv/bin:$PATH"
}

# Runs a command that lasts. A signal to the script alone reaches the command, too, which saves what it has; its status is
# the function's.
attended() {
    local child status
    set -m # a process group of its own, so that it gets each signal once
    "$@" &
    child=$!
    set +m
    trap 'kill -TERM -- "-$child" 2>/dev/null || true' TERM HUP
    trap 'kill -INT -- "-$child" 2>/dev/null || true' INT
    while
        status=0
        wait "$child" || status=$?
        kill -0 "$child" 2>/dev/null # a signal ends `wait` before the command has ended
    do :; done
    trap - TERM HUP INT
    return "$status"
}
