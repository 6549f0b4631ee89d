# Paths and small words shared by the scripts. Sourced by ./dev, which sets `top`.
scripts=$top/scripts
cache=${CORESPAN_CACHE:-$top/.cache}
sdk_js=$top/tests/sdk/js
sdk_python=$top/tests/sdk/python
python_venv=$cache/python
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
