#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU slice; the arguments are those of the command on one machine:
#
#   TPU=name ZONE=zone bash launch/tpu_pod.sh --config=configs/mars.py --workdir=/shared/mars ...
#
# Each host has the repository in ~/cfaan-jax with jax[tpu] in its .venv, and sees the records and the workdir.

set -euo pipefail
case "${1-}" in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
printf -v arguments '%q ' "$@"  # the remote shell takes them apart again
exec gcloud compute tpus tpu-vm ssh "${TPU:?name the slice: TPU=NAME}" --zone="${ZONE:?name its zone: ZONE=ZONE}" \
    --worker=all --command="cd ~/cfaan-jax && .venv/bin/python -m cfaan_jax.main --distributed=yes $arguments"
