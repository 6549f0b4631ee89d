# Installs what is missing on a fresh Debian 12. Every part looks first and says what it adds; a second run changes nothing. Sourced by ./dev.
setup_parts=(rust system nextest valgrind java node page python go browser kafka)

setup() {
  local part
  [ $# -gt 0 ] || set -- "${setup_parts[@]}"
  for part in "$@"; do
    case " ${setup_parts[*]} " in
      *" $part "*) "setup_$part" ;;
      *) fail "no part '$part' to set up; there are: ${setup_parts[*]}" ;;
    esac
  done
}

# Debian packages, only those that are missing.
install_packages() {
  local package missing=() as_root=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  have apt-get || fail "these Debian packages are missing and there is no apt-get; install their like by hand: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    have sudo || fail "needs root or sudo to install: ${missing[*]}"
    as_root=(sudo)
    # Asks for the password, which the commands below cannot.
    sudo -v || fail "sudo does not let you install: ${missing[*]}"
  fi
  say "installing Debian packages: ${missing[*]}"
  mkdir -p "$cache"
  # Another apt may be at work: its lock is waited for.
  local options=(-qq -o DPkg::Lock::Timeout=300)
  limited "apt-get update" 300 ${as_root[@]+"${as_root[@]}"} apt-get update "${options[@]}" || say "apt-get update failed; trying with the lists that are here"
  limited "apt-get install" 900 ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${options[@]}" "${missing[@]}" >"$cache/apt.log" 2>&1 ||
    fail "apt-get could not install ${missing[*]}:
$(tail -n 10 "$cache/apt.log")"
}

setup_rust() {
  [ -e "$HOME/.cargo/env" ] && source "$HOME/.cargo/env"
  have cargo || fail "cargo is missing; install a Rust toolchain (rustup, stable) first"
  local wanted
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")
  local installed
  installed=$(timeout 60 rustc --version | awk '{print $2}')
  [ "$(printf '%s\n' "$wanted" "$installed" | sort -V | head -n 1)" = "$wanted" ] ||
    fail "rustc $installed is too old, $wanted or later is needed: rustup update stable"
}

# What the builds of librdkafka and of glommio need; glommio's calls git whether there is something to fetch or not.
setup_system() {
  local packages=(zlib1g-dev libssl-dev)
  { have cc && have c++ && have make; } || packages+=(build-essential)
  have pkg-config || packages+=(pkg-config)
  have cmake || packages+=(cmake)
  have openssl || packages+=(openssl)
  have curl || packages+=(curl ca-certificates)
  have perl || packages+=(perl)
  have git || packages+=(git)
  install_packages "${packages[@]}"
}

setup_java() {
  local packages=()
  # The compiler too: the Kafka Connect plug-in is Java.
  have javac && [ "$(javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p')" -ge 17 ] || packages+=(openjdk-17-jdk-headless)
  have mvn || packages+=(maven)
  [ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"
}

setup_node() {
  local packages=()
  have node || packages+=(nodejs)
  have npm || packages+=(npm)
  [ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"
  local major
  major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$major" -ge 18 ] || fail "node $(node -v) is too old; 18 or later is needed"
  made_from "$sdk_js/node_modules/.made" "$sdk_js/package-lock.json" && return
  say "installing Node packages into tests/sdk/js/node_modules"
  (cd "$sdk_js" && limited "npm ci" 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) || fail "npm ci failed in tests/sdk/js"
  touch "$sdk_js/node_modules/.made"
}

# The browser bundle of the JavaScript SDK, which build.rs embeds into the demo page.
setup_page() {
  setup_node
  local from=$sdk_js/node_modules/centrifuge
  cmp -s "$from/dist/centrifuge.js" "$page_vendor/centrifuge.js" && cmp -s "$from/LICENSE" "$page_vendor/centrifuge.LICENSE" && return
  say "copying the browser bundle of the centrifuge package into src/http/pages/vendor"
  mkdir -p "$page_vendor"
  cp "$from/dist/centrifuge.js" "$page_vendor/centrifuge.js"
  cp "$from/LICENSE" "$page_vendor/centrifuge.LICENSE"
}

setup_python() {
  install_python
  made_from "$python_venv/.made" "$sdk_python/requirements.txt" && return
  say "installing Python packages into ${python_venv#"$top"/}"
  make_venv "$python_venv" "$sdk_python/requirements.txt"
}

# cargo-nextest, which runs the Rust tests: a wheel on PyPI holds the binary.
setup_nextest() {
  made_from "$nextest_venv/.made" "$scripts/nextest/requirements.txt" && return
  install_python
  say "installing cargo-nextest into ${nextest_venv#"$top"/}"
  make_venv "$nextest_venv" "$scripts/nextest/requirements.txt"
}

# callgrind counts instructions.
setup_valgrind() { have valgrind || install_packages valgrind; }

# A Go that the SDK's module file takes: the machine's own, or the one in a wheel on PyPI (Debian's is older).
go_venv=$cache/go
go_command() {
  if have go && go_suits "$(go env GOVERSION)"; then echo go; else echo "$go_venv/bin/go"; fi
}
go_suits() { [ "$(printf '%s\n' "go$(sed -n 's/^go //p' "$sdk_go/go.mod")" "$1" | sort -V | head -n 1)" = "go$(sed -n 's/^go //p' "$sdk_go/go.mod")" ]; }

setup_go() {
  [ "$(go_command)" != go ] || return 0
  made_from "$go_venv/.made" "$scripts/go/requirements.txt" && return
  install_python
  say "installing Go into ${go_venv#"$top"/}"
  make_venv "$go_venv" "$scripts/go/requirements.txt"
}

install_python() {
  have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null || install_packages python3 python3-venv
}

# make_venv FOLDER REQUIREMENTS: a Python environment with these packages.
make_venv() {
  limited "python3 -m venv" 120 python3 -m venv --clear "$1" || fail "python3 -m venv failed"
  limited "pip install" 600 "$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" >&2 || fail "pip could not install ${2#"$top"/}"
  touch "$1/.made"
}

setup_browser() {
  setup_node
  have chromium || install_packages chromium
  have chromium || fail "chromium is missing after its installation"
}

kafka_version=$(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' "$scripts/kafka/pom.xml")
kafka_libs=$cache/kafka-$kafka_version

setup_kafka() {
  have java || setup_java
  have openssl || install_packages openssl
  [ -d "$kafka_libs" ] && return
  setup_java
  say "fetching Apache Kafka $kafka_version with Maven into ${kafka_libs#"$top"/}"
  mkdir -p "$cache"
  local fetched
  fetched=$(mktemp -d "$cache/kafka-fetch.XXXXXX")
  limited "Maven" 900 mvn --quiet --batch-mode -f "$scripts/kafka/pom.xml" -Dlibs="$fetched/libs" -Dbuild="$fetched/build" package >&2 ||
    fail "Maven could not fetch Apache Kafka (see above)"
  # Whole or not at all: another run may look at the same time.
  mv -T "$fetched/libs" "$kafka_libs" 2>/dev/null || [ -d "$kafka_libs" ] || fail "could not move Kafka into $kafka_libs"
  rm -rf "$fetched"
}
