#!/bin/sh
# reset_tokens.sh locked|done|error [HOURS]: make tokens todo again, or those claimed or finished so long ago.
# Their logs are kept. Of a view of some tokens: --where 'cores == 1' in place of SingleCore.
exec picas reset "${1:?locked, done or error}" ${2:+--older-than "${2}h"} --yes
