#!/usr/bin/env bash
# The whole paper at small scale, on pedestrians drawn by code: noisy tracklets -> Re-Detect and Link -> TFRecords ->
# training -> ranked lists and a table of CMC and mAP. Nothing is downloaded but Python packages.
# Stopped at any point and started again, it goes on.
#
#   bash launch/quickstart.sh [--out=runs/quickstart] [--seed=0] [--identities=64] [--config.FIELD=VALUE ...]
#
# Arguments that begin with --config. go to every training and evaluation command.

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

out=runs/quickstart seed=0 identities=64 overrides=()
for argument in "$@"; do
    case "$argument" in
        --out=*) out="${argument#*=}" ;;
        --seed=*) seed="${argument#*=}" ;;
        --identities=*) identities="${argument#*=}" ;;
        --config.*=*) overrides+=("$argument") ;;
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) echo "error: unknown argument '$argument'; see: bash launch/quickstart.sh --help" >&2; exit 2 ;;
    esac
done

install requirements.txt
source launch/synthetic.sh
more=("--config.eval.corrections=$out/synthetic/corrections.csv" ${overrides[@]+"${overrides[@]}"})

steps=6
draw_synthetic ${overrides[@]+"${overrides[@]}"}
step "4/6 score an untrained CF-AAN"
run cfaan untrained raw --mode=evaluate --config.eval.weights=untrained "${more[@]}"
step "5/6 train and score C2D and CF-AAN, raw and aligned"
for model in c2d cfaan; do
    for records in raw aligned; do
        step "    $model on $records tracklets"
        run "$model" "$model-$records" "$records" --config.eval.raw_records="$out/records/raw" "${more[@]}"
    done
done
step "6/6 the table"
attended python -m cfaan_jax.report.summary --out="$out/results.json" \
    "$out"/{untrained,c2d-raw,c2d-aligned,cfaan-raw,cfaan-aligned}/results.json
printf '\nTook %d min %02d s after installation. Everything is under %s:\n' \
    $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) "$out"
cat <<EOF
  synthetic/              the data set as MARS is laid out, truth.json, corrections.csv
  records/{raw,aligned}/  TFRecords; records/aligned/preview/ shows what Re-Detect and Link did
  ide/ c2d-*/ cfaan-*/    checkpoints, metrics.csv, TensorBoard events, report/ with pages: curves, ranked lists, attention
  results.json            the table above
EOF
