# Paths and small words shared by the scripts. Sourced by ./dev, which sets `top`.
scripts=$top/scripts
cache=${CORESPAN_CACHE:-$top/.cache}
sdk_js=$top/tests/sdk/js
sdk_python=$top/tests/sdk/python
sdk_go=$top/tests/sdk/go
sdk_java=$top/tests/sdk/java
python_venv=$cache/python
nextest_venv=$cache/nextest
page_vendor=$top/src/http/pages/vendor

say() { printf '%s\n' "$*" >&2; }
fail() {
  printf 'dev: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# made_from STAMP SOURCE: what STAMP stands for was made from SOURCE as it is now.
made_from() { [ -e "$1" ] && ! [ "$2" -nt "$1" ]; }

# limited WHAT SECONDS COMMAND...: ends COMMAND, and what it started, after SECONDS, and says so. It ends too when this shell does, by Ctrl-C for one:
# that is why it is waited for in the background, where a signal reaches this shell at once.
limited() {
  local what=$1 seconds=$2 begin=$SECONDS status=0
  shift 2
  setpriv --pdeathsig TERM timeout --kill-after=10 "$seconds" "$@" </dev/null 9>&- &
  wait $! || status=$?
  [ $status -eq 0 ] || [ $((SECONDS - begin)) -lt "$seconds" ] || say "dev: $what ran over its limit of $seconds s and was ended"
  return $status
}

# Process PID by its number and the time of its start, because numbers are given again; nothing if it has ended, reaped or not.
process() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  # The fields after the name, which may hold anything: state, and 19 further on the start.
  read -ra stat <<<"${stat##*) }"
  [ "${stat[0]}" = Z ] || echo "$1 ${stat[19]}"
}

# The processes whose environment holds VARIABLE=VALUE, which a process hands on to whatever it starts, in whatever group or session.
marked() { (cd /proc && grep -lzxF -- "$1" [0-9]*/environ 2>/dev/null | cut -d / -f 1) || true; }

# Ends the processes that are marked so: asks, and after 3 s insists.
end_marked() {
  local turn pids
  for turn in {1..100}; do
    mapfile -t pids < <(marked "$1")
    [ ${#pids[@]} -gt 0 ] || return 0
    case $turn in
      1) kill -TERM "${pids[@]}" 2>/dev/null ;;
      [1-9] | [12]?) ;;
      *) kill -KILL "${pids[@]}" 2>/dev/null ;;
    esac
    sleep 0.1
  done
  say "dev: these processes cannot be ended: ${pids[*]}"
}
