#!/bin/bash
# What is done on each of these hosts; picas submit ssh gives it to a login shell there.
#PICAS --host={{host}}
#PICAS --file={{file}}
#PICAS --directory={{directory}}

set -e
mkdir -p {{directory}}
cd {{directory}}
{{setup}}
{{export}}

# {{pilots}} pilots on each host, in the background; its answer tells the job's id.
exec {{command}}
