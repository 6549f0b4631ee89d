# The stage bare: `./dev demo` on a Debian 12 that has a Rust toolchain and nothing else. Sourced by scripts/test.sh.
#
# The machine is a folder that mmdebstrap fills. What runs in it has mounts and processes of its own, but this machine's network: when the first of
# its processes ends, for whatever reason, the kernel ends the others and undoes the mounts.
bare=$cache/bare
bare_seconds_to_answer=1200

stage_bare() {
  [ "$(id -u)" = 0 ] || fail "the stage bare mounts and changes its root, so it has to run as root"
  local tool
  for tool in mmdebstrap curl git; do have $tool || install_packages $tool; done
  bare_make
  local port admin_port pid
  port=$(bare_free_port)
  admin_port=$((port + 1))
  say "./dev demo in $bare, with port $port"
  unshare --mount --propagation private --pid --fork --kill-child=KILL \
    bash -c "$(declare -f bare_enter); bare_enter \"\$@\"" - "$bare" "$(rustc --print sysroot)" --port "$port" --admin-port "$admin_port" &
  pid=$!
  trap 'bare_end '"$pid" EXIT
  bare_await "$pid" "http://127.0.0.1:$port"
}

# A folder with Debian's apt and what it needs, this tree without what git ignores, and the way to the package registries that this machine uses.
bare_make() {
  local file options=()
  rm -rf --one-file-system "$bare"
  mkdir -p "$bare"
  for file in /etc/apt/apt.conf.d/*; do
    ! grep -q '^ *Acquire::' "$file" || options+=("--aptopt=$file")
  done
  say "making a bare Debian 12 in $bare"
  limited "mmdebstrap" 600 unshare --mount --propagation private --pid --fork --kill-child=KILL --mount-proc \
    mmdebstrap --quiet --variant=apt "${options[@]}" bookworm "$bare" || fail "mmdebstrap could not make $bare"
  cp /etc/resolv.conf /etc/hosts "$bare/etc/"
  for file in .npmrc .cargo/config.toml; do
    [ ! -e "$HOME/$file" ] || install -D -m 600 "$HOME/$file" "$bare/root/$file"
  done
  file=/etc/ssl/certs/ca-certificates.crt
  if [ -e $file ]; then
    install -D -m 644 $file "$bare$file"
    # Debian's package of certificates makes the file above anew, and takes in what it finds here.
    install -D -m 644 $file "$bare/usr/local/share/ca-certificates/machine.crt"
  fi
  mkdir -p "$bare/corespan" "$bare/opt/rust"
  git -C "$top" ls-files -z --cached --others --exclude-standard | tar -C "$top" --null --files-from=- --ignore-failed-read -c | tar -C "$bare/corespan" -x
}

# Runs as the first process of the bare machine.
bare_enter() {
  set -euo pipefail
  local bare=$1 toolchain=$2 names=()
  shift 2
  mount --bind "$toolchain" "$bare/opt/rust"
  mount -o remount,bind,ro "$bare/opt/rust"
  mount -t proc proc "$bare/proc"
  mount --rbind /dev "$bare/dev"
  mount -t sysfs -o ro sysfs "$bare/sys" || true
  # Of the environment only what says how registries are reached.
  mapfile -t names < <(env | grep -iE '^(https?_proxy|all_proxy|no_proxy|ssl_cert_(file|dir)|curl_ca_bundle|node_extra_ca_certs|npm_config_[a-z_]+|cargo_(http|registries|source)_[a-z_]+)=')
  exec chroot "$bare" env -i HOME=/root LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    ${names[@]+"${names[@]}"} CARGO_TERM_COLOR=never CARGO_TERM_QUIET=true /corespan/dev demo "$@" </dev/null
}

# Until the demo page answers, whole: with the SDK's bundle, which the set-up fetches.
bare_await() {
  local pid=$1 url=$2 deadline=$((SECONDS + bare_seconds_to_answer)) path
  until curl --silent --fail --max-time 5 --output /dev/null "$url/demo"; do
    kill -0 "$pid" 2>/dev/null || fail "./dev demo ended before its page answered"
    [ $SECONDS -lt $deadline ] || fail "./dev demo did not answer within $bare_seconds_to_answer s"
    sleep 1
  done
  for path in / /assets/centrifuge.js; do
    curl --silent --show-error --fail --max-time 5 --output /dev/null "$url$path" || fail "the demo answers, but not $path"
  done
  say "$url/demo answers"
}

bare_end() {
  kill -9 "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
  rm -rf --one-file-system "$bare"
}

# The first of two ports that nothing uses.
bare_free_port() {
  local port
  for port in $(shuf -i 16350-16382 -n 20); do
    port=$((port * 2))
    port_is_free "$port" && port_is_free $((port + 1)) || continue
    echo "$port"
    return
  done
  fail "no free port found for the demo"
}
