#!/bin/sh
# process_task.sh INPUT ID: what is done for one token; here INPUT is a shell command.
set -eu
echo "token $2 on $(uname -n), in job ${DIRACJOBID:-${JOBID:-of no Grid}}"
sh -c "$1"
