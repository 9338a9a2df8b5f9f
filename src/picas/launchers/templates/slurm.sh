#!/bin/bash
# Pilots of PiCaS, {{pilots}} at the most; submit it with: sbatch THIS-FILE
#SBATCH --job-name={{name}}
#SBATCH --array={{array}}
#SBATCH --chdir={{directory}}
#SBATCH --output={{output}}
#SBATCH --open-mode=append
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={{cores}}
#SBATCH --mem={{memory}}
#SBATCH --gres=gpu:{{gpus}}
#SBATCH --time={{time}}
#SBATCH --partition={{queue}}
#SBATCH --account={{account}}
#SBATCH --constraint={{constraint}}
#SBATCH --signal={{signal}}
#SBATCH {{option}}

set -e
{{setup}}
{{export}}
trap '' {{notice}} # until the pilot is there to heed it

# The pilot takes the shell's place, so that it is what Slurm signals.
exec {{command}}
