#!/usr/bin/env bash
# Who appears in several videos: tracks the people in each, and shows for every track of the first one the most similar of
# the others, on a page. Of one video alone the second halves of tracks are searched for the first ones, which gives figures.
# Nothing is downloaded but Python packages; people tracked once are not tracked again.
#
#   bash launch/demo.sh a.mp4 [b.mp4 ...] [--weights=WHERE] [--out=FOLDER] [--plain] [--video_detector=hog] [--FLAG=VALUE ...]
#
# WHERE: a workdir, a folder that --mode=export wrote, an .onnx file of a re-identification network, or weights of CF-AAN
# from torch; usually what the quickstart trained, which has seen drawn pedestrians only. FOLDER: usually runs/demo, here; it
# shows people, so delete it when it has served; a page that is there is replaced. Features are fitted to the tracklets at
# hand, without labels; --plain leaves them as the network gives them. Other flags go to data_prep/build_tfrecords.py:
# --video_stride=3, or --detector=hog --linker=largest for Re-Detect and Link.

here="$PWD"
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

videos=() more=() plain=() out=runs/demo weights="$repository/runs/quickstart/cfaan-aligned" needs=(requirements.txt)
for argument in "$@"; do
    if [[ "$argument" == --*= ]]; then echo "error: $argument needs a value behind the =" >&2; exit 2; fi
    case "$argument" in
        --weights=*) weights="${argument#*=}" ;;
        --out=*) out="${argument#*=}" ;;
        --plain) plain=(--plain) ;;
        -h | --help) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        --*=*) more+=("$argument") ;;
        -*) echo "error: unknown argument '$argument'; write flags as --name=value; see: bash launch/demo.sh --help" >&2; exit 2 ;;
        *) videos+=("$argument") ;;
    esac
done
if [ ${#videos[@]} = 0 ]; then echo "error: which videos? bash launch/demo.sh a.mp4 b.mp4" >&2; exit 2; fi

if [[ " $weights ${more[*]-} " =~ (\.onnx|onnx:) ]]; then needs+=(data_prep/requirements-onnx.txt); fi
install "${needs[@]}" --no-deps data_prep/requirements-video.txt
cd "$here" # names are those of the caller's folder
if [ ! -e "$weights" ]; then
    echo "error: $weights: no weights there; give --weights=WHERE (without it, those of the quickstart are meant), or train" \
        "some: bash launch/quickstart.sh" >&2; exit 2
fi
export PYTHONPATH="$repository${PYTHONPATH:+:$PYTHONPATH}"
attended python -m cfaan_jax.demo "$out/records" --weights="$weights" --out="$out/report" --check
root="$(IFS=:; echo "${videos[*]}")"
attended python "$repository/data_prep/build_tfrecords.py" --dataset=video --root="$root" --training_share=0 \
    --out="$out/records" --detector=none ${more[@]+"${more[@]}"}
attended python -m cfaan_jax.demo "$out/records" --weights="$weights" --out="$out/report" ${plain[@]+"${plain[@]}"}
