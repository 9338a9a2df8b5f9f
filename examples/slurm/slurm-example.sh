#!/bin/bash
# Six pilots as one job array: sbatch slurm-example.sh
#SBATCH --job-name=picas
#SBATCH --array=0-5
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:15:00
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
#SBATCH --output=picas-%A_%a.out

# Where picas comes from; what your login shell has, a job may lack.
# module load Python/3.11
# . "$HOME/venv/bin/activate"

# The pool, unless picas init has written it into your configuration file. No password: this file can be read by others.
# export PICAS_POOL=https://couch.example.org:6984/pool

trap '' USR1 # until the pilot is there to heed it

# A pilot for each element of the array, with as many tokens at a time as it has cores. It takes only tokens that it can
# finish, and two minutes before the job's end it warns the work by USR1. With exec it is the pilot that Slurm signals and
# gives time to put its tokens back; of a shell above it Slurm would kill all as soon as that has ended.
exec picas run --workers "${SLURM_CPUS_PER_TASK:-1}" --signal USR1@120
