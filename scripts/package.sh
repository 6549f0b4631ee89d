# `./dev package`: a deb, an rpm, a tarball and the debug symbols, in target/package. Sourced by ./dev.
#
# CORESPAN_BINARIES        a folder with corespan and corespan-bench, instead of a build
# CORESPAN_PACKAGE_VERSION another version than that of Cargo.toml
# CORESPAN_PACKAGE_DIR     another folder than target/package; it is emptied
# CORESPAN_PACKAGE_SAMPLE_ADDS  a line for the end of the sample, for the test
packaging=$top/packaging
package_venv=$cache/nfpm
# The oldest glibc that the programs run with: RHEL 9, Ubuntu 22.04 and Debian 12 have it or a newer one. Zig's linker knows each version's symbols.
package_glibc=2.34
package_zig=$cache/zig
package_target=$(uname -m)-unknown-linux-gnu
package_built=${CARGO_TARGET_DIR:-$top/target}/$package_target/release
package_dir=${CORESPAN_PACKAGE_DIR:-${CARGO_TARGET_DIR:-$top/target}/package}

package() {
  local binaries=${CORESPAN_BINARIES:-} version=${CORESPAN_PACKAGE_VERSION:-} arch kind file
  case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) fail "no packages for $(uname -m)" ;;
  esac
  setup_package
  [ -n "$version" ] || version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)
  if [ -z "$binaries" ]; then
    package_build
    binaries=$package_built
  fi
  [ -x "$binaries/corespan" ] && [ -x "$binaries/corespan-bench" ] || fail "no corespan and corespan-bench in $binaries"
  if ! package_symbols "$binaries"; then
    [ -n "${CORESPAN_BINARIES:-}" ] || fail "these programs would not start everywhere they have to: no packages"
    say "dev: warning: packages of these programs are for trying the packages only"
  fi
  rm -rf "$package_dir"
  mkdir -p "$package_dir"
  package_dir=$(cd "$package_dir" && pwd)
  local work=$package_dir/work
  cp -r "$packaging" "$work"
  package_tree "$binaries" "$work/tree" "$version"
  package_contents "$work"
  package_libraries "$work"
  for kind in deb rpm; do
    (
      cd "$work"
      export PACKAGE_VERSION=$version PACKAGE_ARCH=$arch
      limited "nfpm" 300 "$package_venv/bin/nfpm" package --config nfpm.yaml --packager $kind --target "$package_dir/" >&2
    )
  done
  package_tarball "$work" "corespan-$version-linux-$(uname -m)"
  rm -rf "$work"
  for file in "$package_dir"/*; do say "$(du --apparent-size -h "$file" | cut -f 1) ${file#"$top"/}"; done
}

setup_package() {
  have strip || install_packages binutils
  made_from "$package_venv/.made" "$packaging/requirements.txt" && return
  install_python
  say "installing nfpm into ${package_venv#"$top"/}"
  make_venv "$package_venv" "$packaging/requirements.txt"
}

# The programs for glibc $package_glibc, with OpenSSL and zlib in them.
package_build() {
  local zig tools=$package_zig/tools tool
  setup rust system page
  # OpenSSL's Configure takes more than the perl-base that is always there.
  install_packages perl make
  if ! made_from "$package_zig/.made" "$packaging/zig/requirements.txt"; then
    install_python
    say "installing cargo-zigbuild and Zig into ${package_zig#"$top"/}"
    make_venv "$package_zig" "$packaging/zig/requirements.txt"
  fi
  zig=$("$package_zig/bin/python3" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__) + "/zig")')
  # cargo-zigbuild tells cargo, the crate cc and CMake of its compiler; the configure script of liburing asks CC and CXX.
  mkdir -p "$tools"
  for tool in cc c++; do
    printf '#!/bin/sh\nexec "%s" %s -target %s-linux-gnu.%s -fno-sanitize=all "$@"\n' "$zig" $tool "$(uname -m)" "$package_glibc" >"$tools/$tool"
    chmod +x "$tools/$tool"
  done
  (
    export PATH=$package_zig/bin:$PATH CC=$tools/cc CXX=$tools/c++
    export CARGO_ZIGBUILD_CACHE_DIR=$package_zig/cache ZIG_GLOBAL_CACHE_DIR=$package_zig/cache/global
    # The OpenSSL that is linked in does not know where this system keeps its certificates: librdkafka then looks in the usual places.
    export CFLAGS=-DWITH_STATIC_LIB_libcrypto=1
    # Zig's linker writes a build id, by which debuggers find the symbols, only if it is told to.
    export RUSTFLAGS="-C link-arg=-Wl,--build-id=sha1"
    limited "building corespan" 3600 cargo-zigbuild zigbuild --release --locked --manifest-path "$top/Cargo.toml" \
      --features static-libraries --target "$package_target.$package_glibc" --bin corespan --bin corespan-bench
  )
  # A librdkafka that was built here in another way is not built again for another CFLAGS. It says so in its log, in these words.
  strings "$package_built/corespan" | grep -x 'statically linked ' >/dev/null ||
    fail "this librdkafka would not find the system's certificates: remove $package_built and build again"
}

# package_symbols BINARIES: whether the programs do with the glibc and the libraries that every supported system has. A line for each that does not.
package_symbols() {
  local binaries=$1 program listing newer library status=0
  for program in corespan corespan-bench; do
    listing=$(readelf --wide --dyn-syms --dynamic --version-info "$binaries/$program") && grep -q GLIBC_ <<<"$listing" ||
      fail "readelf finds no glibc in $binaries/$program"
    # Versions without a number (GLIBC_ABI_DT_RELR, GLIBC_PRIVATE) are newer too, or nobody's business; those that no symbol has stand alone.
    newer=$(grep -oE '([A-Za-z_][A-Za-z0-9_]*@+)?GLIBC_[A-Z0-9_.]+' <<<"$listing" | sort -u |
      awk -F 'GLIBC_' -v limit="$package_glibc" '
        BEGIN { split(limit, l, ".") }
        { split($2, v, ".") }
        v[1] !~ /^[0-9]+$/ || v[1] + 0 > l[1] + 0 || (v[1] + 0 == l[1] + 0 && v[2] + 0 > l[2] + 0) { if ($1 == "") alone[$0]; else { print; named["GLIBC_" $2] } }
        END { for (version in alone) if (!(version in named)) print version }')
    if [ -n "$newer" ]; then
      say "dev: $program needs ${newer//$'\n'/ }, which glibc $package_glibc (RHEL 9) does not have"
      status=1
    fi
    for library in $(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$listing"); do
      case $library in
        libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | libutil.so.1 | ld-linux-*) ;;
        *)
          say "dev: $program needs $library, which should be in it"
          status=1
          ;;
      esac
    done
  done
  return $status
}

# package_tree BINARIES TREE VERSION: what goes into the packages, by its name, and the debug symbols, where gdb looks for them.
package_tree() {
  local binaries=$1 tree=$2 version=$3 program id debug
  mkdir -p "$tree/man" "$tree/completions"
  for program in corespan corespan-bench; do
    id=$(readelf --notes "$binaries/$program" | sed -n 's/.*Build ID: //p')
    [ -n "$id" ] || fail "$program has no build id"
    debug=$tree/debug/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug
    mkdir -p "${debug%/*}"
    objcopy --only-keep-debug --compress-debug-sections "$binaries/$program" "$debug"
    chmod 644 "$debug"
    strip --strip-unneeded --remove-section=.comment -o "$tree/$program" "$binaries/$program"
  done
  cp "$top/config/corespan.toml" "$top/systemd/corespan.service" "$top/LICENSE" "$top/README.md" "$tree/"
  cp -r "$top/tuning" "$tree/"
  [ -z "${CORESPAN_PACKAGE_SAMPLE_ADDS:-}" ] || printf '\n%s\n' "$CORESPAN_PACKAGE_SAMPLE_ADDS" >>"$tree/corespan.toml"
  limited "licences" 300 python3 "$packaging/licences.py" "$top" >"$tree/licences"
  gzip --best --no-name "$tree/licences"
  # Man pages and completions, by the binaries themselves.
  for program in corespan corespan-bench; do
    limited "$program man" 30 "$tree/$program" man "$tree/man"
    [ -e "$tree/man/$program.1" ] || fail "$program wrote no man page of its name"
    limited "$program completions" 30 "$tree/$program" completions bash >"$tree/completions/$program.bash"
    limited "$program completions" 30 "$tree/$program" completions zsh >"$tree/completions/_$program"
    limited "$program completions" 30 "$tree/$program" completions fish >"$tree/completions/$program.fish"
  done
  gzip --best --no-name "$tree"/man/*
}

# Adds to nfpm.yaml what the binaries wrote.
package_contents() {
  local work=$1 file to
  for file in "$work"/tree/man/* "$work"/tree/completions/*; do
    [ -e "$file" ] || continue
    case $file in
      *.[1-8].gz)
        to=${file%.gz}
        to=/usr/share/man/man${to##*.}/${file##*/}
        ;;
      *.bash)
        to=${file##*/}
        to=/usr/share/bash-completion/completions/${to%.bash}
        ;;
      *.fish) to=/usr/share/fish/vendor_completions.d/${file##*/} ;;
      */_*) to=/usr/share/zsh/vendor-completions/${file##*/} ;;
      *) fail "packages have no place for ${file##*/}" ;;
    esac
    echo "  - {src: ${file#"$work"/}, dst: $to, file_info: {mode: 0644}}"
  done >>"$work/nfpm.yaml"
}

# Puts the libraries that the programs name into nfpm.yaml, in Debian's words and in rpm's; for glibc also the version.
package_libraries() {
  local work=$1 library deb=() rpm=() glibc
  glibc=$(objdump -T "$work/tree/corespan" "$work/tree/corespan-bench" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
  say "the programs need $glibc"
  for library in $(objdump -p "$work/tree/corespan" "$work/tree/corespan-bench" | awk '$1 == "NEEDED" { print $2 }' | sort -u); do
    rpm+=("\"$library()(64bit)\"")
    case $library in
      libc.so.6)
        deb+=("\"libc6 (>= ${glibc#GLIBC_})\"")
        rpm+=("\"libc.so.6($glibc)(64bit)\"")
        ;;
      libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | libutil.so.1 | ld-linux-*) ;;
      libcrypto.so.3 | libssl.so.3) deb+=('"libssl3 (>= 3.0.0)"') ;;
      libgcc_s.so.1) deb+=('"libgcc-s1 (>= 4.2)"') ;;
      libz.so.1) deb+=('"zlib1g (>= 1:1.2.3.4)"') ;;
      *) fail "no Debian package known for $library" ;;
    esac
  done
  mapfile -t deb < <(printf '%s\n' "${deb[@]}" | sort -u)
  sed -i "s/NEEDED_DEB/$(IFS=, && echo "${deb[*]}")/; s/NEEDED_RPM/$(IFS=, && echo "${rpm[*]}")/" "$work/nfpm.yaml"
}

package_tarball() {
  local work=$1 name=$2 tree=$1/tree
  local root=$work/$name
  mkdir -p "$root/bin" "$root/share/doc"
  cp "$tree/corespan" "$tree/corespan-bench" "$root/bin/"
  cp "$tree/corespan.toml" "$tree/corespan.service" "$work/corespan.sysusers" "$work/corespan.env" "$root/"
  cp "$tree/LICENSE" "$tree/README.md" "$tree/licences.gz" "$root/share/doc/"
  cp -r "$tree/man" "$tree/completions" "$tree/tuning" "$root/share/"
  rmdir --ignore-fail-on-non-empty "$root/share/man" "$root/share/completions"
  local options=(--owner=0 --group=0 --numeric-owner --sort=name "--mtime=@$(git -C "$top" log -1 --format=%ct)")
  tar "${options[@]}" -C "$work" -cJf "$package_dir/$name.tar.xz" "$name"
  tar "${options[@]}" -C "$tree/debug" -cJf "$package_dir/$name-debug.tar.xz" usr
}

# The stage package: what `./dev package` makes, in a Debian 12 of its own that systemd-nspawn boots.
package_root=$cache/package-root

stage_package() {
  [ "$(id -u)" = 0 ] || fail "the stage package boots a system in a container, so it has to run as root"
  install_packages mmdebstrap systemd-container dbus procps iproute2 util-linux
  package_make_root
  # systemd-nspawn wants the machine's bus.
  if [ ! -S /run/dbus/system_bus_socket ]; then
    mkdir -p /run/dbus
    dbus-daemon --system --nofork --nopidfile </dev/null >/dev/null 2>&1 &
  fi
  local packages=$test_dir/packages
  rm -rf "$packages"
  mkdir -p "$packages"
  # The older version's sample is another, so that an upgrade has a choice to make.
  CORESPAN_PACKAGE_DIR=$packages/new "$top/dev" package
  [ -n "${CORESPAN_BINARIES:-}" ] || export CORESPAN_BINARIES=$package_built
  CORESPAN_PACKAGE_DIR=$packages/old CORESPAN_PACKAGE_VERSION=0.0.9 CORESPAN_PACKAGE_SAMPLE_ADDS="# An older sample." "$top/dev" package
  export CORESPAN_TEST_ROOT=$package_root CORESPAN_TEST_PACKAGES=$packages/new CORESPAN_TEST_PACKAGES_OLD=$packages/old
  export CORESPAN_TEST_BIN=$CORESPAN_BINARIES/corespan
  limited "the tests of packages" $tests_seconds python3 "$top/tests/packages/test_packages.py" --verbose
}

# Debian 12 with systemd and the tools that look at packages. It is read only in the tests, and made again when this script changes.
package_make_root() {
  local file options=()
  made_from "$package_root/.made" "$scripts/package.sh" && return
  rm -rf --one-file-system "$package_root"
  mkdir -p "$package_root"
  for file in /etc/apt/apt.conf.d/*; do
    ! grep -q '^ *Acquire::' "$file" || options+=("--aptopt=$file")
  done
  say "making a Debian 12 in ${package_root#"$top"/}"
  limited "mmdebstrap" 900 unshare --mount --propagation private --pid --fork --kill-child=KILL --mount-proc \
    mmdebstrap --quiet --variant=apt "${options[@]}" \
    --include=systemd,systemd-sysv,dbus,procps,binutils,xz-utils,rpm,lintian,rpmlint bookworm "$package_root" ||
    fail "mmdebstrap could not make $package_root"
  touch "$package_root/.made"
}
