#!/bin/sh
# push_tokens.sh quick|fractals|autopilot: put tokens into the pool. Doing it again adds none.
case $1 in
    quick) picas push quick.txt ;;
    fractals) picas push ../fractals/sweep.txt ;;
    autopilot) picas push autopilot.csv ;;
    *) echo "usage: push_tokens.sh quick|fractals|autopilot" >&2; exit 2 ;;
esac
