#!/usr/bin/env bash
# process_task.sh INPUT ID: what is done for one token; here INPUT is a shell command.
# What the work needs comes first (modules, data), what it made is put away afterwards.
set -euo pipefail
echo "token $2 on $HOSTNAME"
bash -c "$1"
echo "token $2 has ended"
