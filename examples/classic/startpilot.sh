#!/bin/sh
# What a Grid job runs, beside the files of its sandbox: get PiCaS, say where the pool is, be a pilot.
set -e
mkdir -p config/picas
mv config.toml config/picas/
chmod 600 config/picas/config.toml
export XDG_CONFIG_HOME="$PWD/config"
if ! command -v picas; then
    python3 -m venv environment
    environment/bin/pip install --quiet picas
    PATH="$PWD/environment/bin:$PATH"
fi
chmod +x process_task.sh
exec picas run --max-time 20h --max-scrub 2 -- ./process_task.sh {input} {id}
