#!/bin/sh
# Make the views that people look at, of all tokens, and of those that need one core or four.
set -e
picas views create
picas views create --name SingleCore --where 'cores == 1'
picas views create --name MultiCore --where 'cores == 4'
