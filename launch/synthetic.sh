# Sourced by quickstart.sh and table.sh, behind setup.sh: draws the synthetic set into $out and prepares it, in three steps
# of $steps. Uses $seed and $identities; what is there already stays. Arguments of `draw_synthetic` go to the classifier.

began=$SECONDS
step() { printf '\n=== %s  (%d min %02d s)\n' "$1" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)); }

build() {
    attended python data_prep/build_tfrecords.py --dataset=synthetic --root="$out/synthetic" --seed="$seed" \
        --identities="$identities" "$@"
}
run() { # run VARIANT WORKDIR RECORDS [MORE...]
    attended python -m cfaan_jax.main --config="configs/quickstart.py:$1" --workdir="$out/$2" \
        --config.data.records="$out/records/$3" --config.seed="$seed" "${@:4}"
}

draw_synthetic() {
    step "1/$steps draw the synthetic set in MARS's layout and pack it as it is"
    build --out="$out/records/raw" --detector=none
    step "2/$steps train the IDE classifier that links detections"
    run ide ide raw "$@"
    step "3/$steps Re-Detect and Link"
    build --out="$out/records/aligned" --detector=hog --linker="ide:$out/ide" --preview=6
}
