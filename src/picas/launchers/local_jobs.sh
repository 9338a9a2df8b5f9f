#!/bin/sh
# How far pilots are that local_start has started on this machine, or an end to them:
#     sh local_jobs.sh status|cancel JOB…
# JOB is what local_start said, or one pilot of it: JOB_N. For each pilot a line: JOB_N and then
#     running PID   ended CODE   gone        of status; gone: killed, or the machine was started anew
#     told                                   of cancel
# It is plain sh, and may be sent to another machine: ssh HOST sh -s -- status JOB <local_jobs.sh

verb=$1
shift
home=${HOME:-$(eval "echo ~$(id -un)")} # cron and containers may have none
jobs=${XDG_STATE_HOME:-$home/.local/state}/picas/local

# The processes of a pilot have the path of its exit code's file among their arguments; a later one with the same number has not.
runs() {
  if [ -d /proc/self ]; then
    tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline"
  else
    ps -o args= -p "$1"
  fi | grep -qF -e "$2"
}

look() { # JOB N
  folder=$jobs/$1
  read -r pid <"$folder/$2.pid" || return
  case $pid in
    '' | 0* | 1 | *[!0-9]*) return ;; # to signal these groups would be to signal others, or everybody
  esac
  if runs "$pid" "$folder/$2.exit"; then
    if [ "$verb" = cancel ]; then
      # the whole group: its keeper would not pass it on
      kill -s TERM -- "-$pid" && echo "$1_$2 told"
    else
      echo "$1_$2 running $pid"
    fi
  elif [ "$verb" = status ]; then
    if [ -f "$folder/$2.exit" ]; then
      read -r code <"$folder/$2.exit"
      echo "$1_$2 ended $code"
    else
      echo "$1_$2 gone"
    fi
  fi
}

for wanted; do
  case $wanted in
    *[!0-9_-]*) echo >&2 "'$wanted' is no job of this machine" ;;
    *_*) look "${wanted%_*}" "${wanted#*_}" ;;
    *)
      for mark in "$jobs/$wanted"/*.pid; do
        [ -f "$mark" ] || continue
        number=${mark##*/}
        look "$wanted" "${number%.pid}"
      done
      ;;
  esac
done
:
