#!/bin/sh
# delete_tokens.sh todo|locked|done|error [HOURS]: remove tokens, or those claimed or finished so long ago.
exec picas delete "${1:?todo, locked, done or error}" ${2:+--older-than "${2}h"} --yes
