#!/usr/bin/env bash
# All rows of one of the paper's tables, one run after the other on whatever hardware there is, and the table that they give.
# Stopped at any point and started again, it goes on; runs that tables share are made once.
#
#   bash launch/table.sh N [--scale=paper|small] [--seeds=0,1,2] [--runs=runs/tables] [--records=FOLDER] [--dry_run]
#                        [--config.FIELD=VALUE ...]
#
# N is 1, 2, 3 or 4. --scale=paper (the usual one) trains on FOLDER-raw and FOLDER-dl (usually /data/mars-raw and -dl);
# --scale=small draws its data into FOLDER (usually in the folder of the runs) and fits two CPU cores. --dry_run lists what
# is done and what is to do. Arguments that begin with --config. go to every run.

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

table="" scale=paper seeds=0,1,2 runs=runs/tables records="" dry_run="" overrides=()
for argument in "$@"; do
    case "$argument" in
        [1-4])
            if [ -n "$table" ]; then echo "error: tables $table and $argument; give one of them" >&2; exit 2; fi
            table="$argument" ;;
        --scale=paper | --scale=small) scale="${argument#*=}" ;;
        --seeds=*) seeds="${argument#*=}" ;;
        --runs=*) runs="${argument#*=}" ;;
        --records=*) records="${argument#*=}" ;;
        --dry_run) dry_run=1 ;;
        --config.*=*) overrides+=("$argument") ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) echo "error: unknown argument '$argument'; see: bash launch/table.sh --help" >&2; exit 2 ;;
    esac
done
if [ -z "$table" ]; then echo "error: which table? bash launch/table.sh 2" >&2; exit 2; fi

install requirements.txt
tables() {
    python -m cfaan_jax.tables --table="$table" --runs="$runs" --scale="$scale" --seeds="$seeds" --records="$records" \
        ${overrides[@]+"${overrides[@]}"} "$@"
}
listed="$(tables --list)"
if [ -n "$dry_run" ]; then echo "$listed"; exit; fi

if [ "$scale" = small ] && grep -q '^to do' <<<"$listed"; then
    source launch/synthetic.sh
    steps=3 identities=64
    for seed in ${seeds//,/ }; do
        out="${records:-$runs/drawn}/seed-$seed"
        draw_synthetic
    done
fi

failed=()
while IFS=$'\t' read -r state command <&3; do
    if [ "$state" = done ]; then continue; fi
    printf '\n=== %s  %s\n' "$(date +%H:%M)" "$command"
    status=0
    eval "attended $command" || status=$?
    # 128 and more: somebody stopped it; 2: the input is wrong, and would be so for the next run.
    if [ "$status" -ge 128 ] || [ "$status" = 2 ]; then exit "$status"; fi
    if [ "$status" != 0 ]; then failed+=("status $status: $command"); fi
done 3<<<"$listed"

tables
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nerror: %d runs failed:\n' ${#failed[@]} >&2
    printf '  %s\n' "${failed[@]}" >&2
    exit 1
fi
