#!/usr/bin/env bash
# Trains on GPUs of several machines under Slurm; the arguments are those of the command on one machine:
#
#   sbatch --nodes=2 launch/slurm.sh --config=configs/mars.py --workdir=runs/mars --config.data.records=/data/mars-dl
#
# Submit it in the repository, whose .venv, records and workdir all machines see. JAX takes one GPU for each task: change
# both figures together. Two minutes before the time is over the run saves itself; the same command goes on.
#
#SBATCH --job-name=cfaan
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120

set -euo pipefail
case "${1-}" in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
cd "${SLURM_SUBMIT_DIR:?submit this script with sbatch}"
export PATH="$PWD/.venv/bin:$PATH"
exec srun --kill-on-bad-exit=1 python -m cfaan_jax.main "$@"
