#!/bin/bash
# sbatch slurm_example.sh [SCRIPT]: pilots as a Slurm array. Each takes tokens until none is left, so there may be
# many more tokens than jobs; the job that holds a token stands in its field slurm_job_id. It needs a pool on a
# server: a file cannot be shared by the nodes of a cluster.
#SBATCH --job-name=picas
#SBATCH --array=0-9
#SBATCH --cpus-per-task=2
#SBATCH --time=01:00:00
#SBATCH --output=pilot_%A_%a.log
# exec: what Slurm ends is then the pilot, which has seconds to put its tokens back, and not the shell above it
exec picas run --workers "${SLURM_CPUS_PER_TASK:-1}" --max-time 40m --max-scrub 2 -- "${1:-./process_task.sh}" {input} {id}
