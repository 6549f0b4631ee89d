#!/usr/bin/env bash
# Ends what a process leaves behind that ended without a word, by kill -9 for one. It runs in a session of its own and looks once a second.
#
# guard.sh OWNER java PID            until OWNER or Java ends; then Java is ended
# guard.sh OWNER run VARIABLE=VALUE  until OWNER ends; then all that have this in their environment are ended
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$top/scripts/common.sh"

owner_pid=$1 kind=$2 what=$3
owner=$(process "$owner_pid")
java=
if [ "$kind" = java ]; then
  java=$(process "$what")
  [ -n "$java" ] || exit 0
fi
while [ -n "$owner" ] && [ "$(process "$owner_pid")" = "$owner" ]; do
  [ "$kind" != java ] || [ "$(process "$what")" = "$java" ] || exit 0
  sleep 1
done
case $kind in
  java) [ "$(process "$what")" != "$java" ] || kill -9 "$what" ;;
  run) end_marked "$what" ;;
esac
