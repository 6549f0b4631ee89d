# `./dev test`: every check and test of the project in one order, and a summary. Sourced by ./dev.
#
# A stage is a function stage_NAME; it passes if it exits with 0, has run at least one test where it counts tests, and has skipped none.
# Its output goes to .cache/test/NAME.log, which the terminal follows: no process that outlives the stage can keep it from ending.
#
# A stage runs in a process group of its own, with a mark in its environment that all inherit whom it starts. When it ends, or its time is over,
# or somebody ends ./dev test, all that are marked end. Only this shell holds the lock (file descriptor 9), and nobody inherits it.
source "$scripts/setup.sh"
source "$scripts/bare.sh"
source "$scripts/package.sh"

stages=(fmt tuning clippy rust instructions kafka sim js python go java browser)
stages_on_request=(bare package connect)
# Seconds that a stage may take, with its builds; --long multiplies them by four.
declare -A stage_seconds=(
  [setup]=2400 [fmt]=120 [tuning]=300 [clippy]=1500 [rust]=2700 [instructions]=2400 [kafka]=2700 [sim]=1500 [js]=1800 [python]=1800 [go]=1800 [java]=1800 [browser]=1800 [connect]=2400 [bare]=2400 [package]=4500
)
build_seconds=1500
tests_seconds=1500
sim_seeds=2000
sim_seconds=60
nextest_profile=default

test_dir=$cache/test
target=${CARGO_TARGET_DIR:-$top/target}
rows=()
sum_passed=0
sum_failed=0
stage_pid=
stage_mark=

run_tests() {
  local chosen=() keep_going=no stage
  while [ $# -gt 0 ]; do
    case $1 in
      --keep-going) keep_going=yes ;;
      --long) test_long ;;
      *)
        case " ${stages[*]} ${stages_on_request[*]} " in
          *" $1 "*) ;;
          *) fail "no stage '$1'; there are: ${stages[*]} ${stages_on_request[*]}" ;;
        esac
        chosen+=("$1")
        ;;
    esac
    shift
  done
  [ ${#chosen[@]} -gt 0 ] || chosen=("${stages[@]}")
  cd "$top"
  mkdir -p "$test_dir"
  exec 9>"$test_dir/lock"
  flock --nonblock 9 || fail "another ./dev test runs in this folder"
  test_kafka_down 9>&-
  trap test_end EXIT
  trap 'exit 130' INT TERM HUP
  test_guard

  run_stage setup "${chosen[@]}"
  for stage in "${chosen[@]}"; do
    if [ $sum_failed -gt 0 ] && [ $keep_going = no ]; then
      rows+=("$stage|not run||")
    else
      run_stage "$stage"
    fi
  done
  [ $sum_failed -eq 0 ]
}

# The tests read CORESPAN_TEST_LONG and do more.
test_long() {
  local stage
  export CORESPAN_TEST_LONG=1
  nextest_profile=long
  for stage in "${!stage_seconds[@]}"; do stage_seconds[$stage]=$((stage_seconds[$stage] * 4)); done
  tests_seconds=$((tests_seconds * 4))
  sim_seeds=20000
  sim_seconds=600
}

# Should this shell be ended with -9, the guard ends what it has started.
test_guard() {
  test_mark=$$.$RANDOM$RANDOM
  setsid "$scripts/guard.sh" $$ run "CORESPAN_TEST_RUN=$test_mark" </dev/null >/dev/null 2>&1 9>&- &
}

# Stops what runs for the tests and prints the summary, however the run ended.
test_end() {
  local status=$? row stage result counts seconds
  trap - EXIT
  trap '' INT TERM HUP
  end_stage
  {
    test_kafka_down
    end_marked "CORESPAN_TEST_RUN=$test_mark"
  } 9>&-
  say ""
  printf '%-10s %-10s %-44s %8s\n' stage result tests seconds >&2
  for row in "${rows[@]}"; do
    IFS='|' read -r stage result counts seconds <<<"$row"
    printf '%-10s %-10s %-44s %8s\n' "$stage" "$result" "$counts" "$seconds" >&2
  done
  if [ $status -ne 0 ] && [ $sum_failed -eq 0 ]; then sum_failed=1; fi
  say ""
  printf '%s passed, %s failed\n' $sum_passed $sum_failed
  exit $status
}

run_stage() {
  local name=$1 log=$test_dir/$1.log begin=$SECONDS status=0 pid follower passed failed skipped counts result=ok
  say ""
  say "=== $name"
  : >"$log"
  start_stage "$@" >>"$log" 2>&1
  pid=$stage_pid
  tail --lines=+1 --follow --pid="$pid" --sleep-interval=0.2 "$log" 2>/dev/null 9>&- &
  follower=$!
  await_stage "$name" "$log"
  wait "$pid" 2>/dev/null || status=$?
  end_stage
  wait "$follower" || true
  read -r passed failed skipped <<<"$(count_tests "$name" "$log")"
  counts="$passed passed, $failed failed"
  if [ "$status" -ne 0 ]; then
    result=FAILED
    [ "$failed" -gt 0 ] || failed=1
    [ "$skipped" != - ] || passed=0
    counts="$passed passed, $failed failed (exit $status, ${log#"$top"/})"
  elif [ "$failed" -gt 0 ]; then
    result=FAILED
  elif [ "$skipped" = - ]; then
    counts=
  elif [ "$skipped" -gt 0 ]; then
    result=FAILED failed=1
    counts+=", $skipped SKIPPED"
  elif [ "$passed" -eq 0 ]; then
    result=FAILED failed=1
    counts="no test ran"
  fi
  [ $name = setup ] && [ $result = ok ] || sum_passed=$((sum_passed + passed))
  sum_failed=$((sum_failed + failed))
  rows+=("$name|$result|$counts|$((SECONDS - begin))")
}

# Starts the stage NAME in a process group of its own, marked, without a terminal and without the lock.
start_stage() {
  local name=$1
  shift
  stage_mark=$name.$test_mark
  set -m
  (
    set +m
    trap - EXIT INT TERM HUP
    exec 9>&-
    export CORESPAN_TEST_RUN=$test_mark CORESPAN_TEST_STAGE=$stage_mark
    # Whatever Kafka the stage starts ends with this run, and Kafka's tools do not wait for ever.
    export CORESPAN_KAFKA_OWNER=$$ CORESPAN_KAFKA_TOOL_SECONDS=120
    set -e
    "stage_$name" "$@"
  ) </dev/null &
  stage_pid=$!
  set +m
}

# Until the stage has ended or its time is over.
await_stage() {
  local name=$1 log=$2 deadline=$((SECONDS + stage_seconds[$1]))
  while kill -0 "$stage_pid" 2>/dev/null; do
    if [ $SECONDS -ge $deadline ]; then
      echo "dev: stage $name ran over its limit of ${stage_seconds[$name]} s and was ended" >>"$log"
      # Time for the terminal to show it before the stage is no more.
      sleep 0.5
      end_stage
      return
    fi
    sleep 0.2 9>&-
  done
}

# Ends what is left of the stage: its own shell, and all that are marked as its own.
end_stage() {
  [ -n "$stage_pid" ] || return 0
  kill -TERM -- "-$stage_pid" 2>/dev/null || true
  end_marked "CORESPAN_TEST_STAGE=$stage_mark" 9>&-
  kill -KILL -- "-$stage_pid" 2>/dev/null || true
  stage_pid=
}

# Passed, failed and skipped tests in the log of a stage, each tool's own words added up; a stage without tests counts as one, with "-" skipped.
count_tests() {
  case $1 in
    # Tests that need Kafka are skipped in the stage rust, and the others in the stage kafka, so these are no skips.
    rust | kafka) awk '
      { gsub(/\033\[[0-9;]*m/, "") }
      /^ *Summary \[/ {
        sub(/.* tests? run: /, "")
        gsub(/\([^)]*\)/, "")
        count = split($0, parts, ",")
        for (i = 1; i <= count; i++) { split(parts[i], words, " "); if (words[2] == "passed") p += words[1]; else if (words[2] != "skipped") f += words[1] }
      }
      /^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } }
      END { print p+0, f+0, 0 }' "$2" ;;
    js | browser) awk '/^ℹ (pass|fail|cancelled|skipped|todo) [0-9]+$/ { n[$2] += $3 } END { print n["pass"]+0, n["fail"]+n["cancelled"]+0, n["skipped"]+n["todo"]+0 }' "$2" ;;
    go) awk '/^ *--- (PASS|FAIL|SKIP):/ { n[$2]++ } END { print n["PASS:"]+0, n["FAIL:"]+0, n["SKIP:"]+0 }' "$2" ;;
    java) awk '
      /Tests run: / { gsub(/[^0-9 ]/, ""); run = $1; failed = $2 + $3; skipped = $4 }
      END { print run - failed - skipped, failed+0, skipped+0 }' "$2" ;;
    # Maven's total, and a line for each part of distributed.py. Maven resets a terminal's colours in front of the first.
    connect) awk '
      { gsub(/\033\[[0-9;]*m/, "") }
      /Tests run: / { gsub(/[^0-9 ]/, ""); run = $1; failed = $2 + $3; skipped = $4 }
      /^[a-z]+: ok \(/ { parts++ }
      END { print run - failed - skipped + parts, failed+0, skipped+0 }' "$2" ;;
    python | package | tuning) awk '
      /^Ran [0-9]+ tests? in/ { ran += $2 }
      /^(OK|FAILED)/ { while (match($0, /[a-z]+=[0-9]+/)) { split(substr($0, RSTART, RLENGTH), kv, "="); n[kv[1]] += kv[2]; $0 = substr($0, RSTART + RLENGTH) } }
      END { f = n["failures"] + n["errors"]; s = n["skipped"]; print ran - f - s, f + 0, s + 0 }' "$2" ;;
    *) echo 1 0 - ;;
  esac
}

stage_setup() {
  local stage
  setup rust
  for stage in "$@"; do
    case $stage in
      fmt) limited "cargo fmt --version" 60 cargo fmt --version >/dev/null || fail "cargo fmt is missing: rustup component add rustfmt" ;;
      tuning)
        install_python
        # sysctl, ip, unshare and mount, systemd-analyze.
        install_packages procps iproute2 util-linux mount systemd
        ;;
      clippy)
        limited "cargo clippy --version" 60 cargo clippy --version >/dev/null || fail "cargo clippy is missing: rustup component add clippy"
        setup system page
        ;;
      rust) setup system page nextest ;;
      instructions)
        install_python
        setup system page valgrind
        ;;
      sim) setup system page ;;
      kafka) setup system page nextest kafka ;;
      js) setup system page node kafka ;;
      python) setup system page python kafka ;;
      go) setup system page go kafka ;;
      java) setup system page java kafka ;;
      browser) setup system page browser ;;
      connect)
        [ -n "${CORESPAN_BIN:-}" ] || setup system page
        setup java kafka
        install_python
        have curl || install_packages curl ca-certificates
        # Makes the certificates of the part `tls`.
        have openssl || install_packages openssl
        ;;
    esac
  done
}

stage_fmt() { limited "cargo fmt" 60 cargo fmt --check; }
stage_tuning() { limited "the tests of tuning/" 240 python3 "$top/tests/tuning/test_tuning.py" --verbose; }
stage_clippy() { limited "cargo clippy" $build_seconds cargo clippy --all-targets -- -D warnings; }

stage_rust() {
  nextest --no-run
  nextest
  # nextest leaves out the examples in documentation.
  ! grep -rqE '^ *//[/!] ```' src || limited "the examples in documentation" 600 cargo test --doc
}

# What a delivery costs the core, against its ceilings.
stage_instructions() { limited "counting instructions" 2300 python3 "$scripts/instructions.py"; }

# The tests that need Apache Kafka, which `cargo test` ignores: one broker, three brokers, one with SASL and TLS.
stage_kafka() {
  nextest --no-run
  test_kafka_up one
  test_kafka_up three --brokers 3
  test_kafka_up sasl --sasl
  source "$test_dir/kafka.env"
  nextest --run-ignored only
  test_kafka_down three sasl
}

nextest() {
  local what="the tests" seconds=$tests_seconds
  [ "${1:-}" != --no-run ] || { what="building the tests" && seconds=$build_seconds; }
  limited "$what" "$seconds" "$nextest_venv/bin/cargo-nextest" nextest run --profile $nextest_profile "$@"
}

stage_sim() {
  limited "building the simulator" $build_seconds cargo build --bin corespan-sim
  limited "the simulator" $sim_seconds "$target/debug/corespan-sim" --seeds $sim_seeds
}

stage_js() {
  sdk_stage
  node_tests "$sdk_js"/*.test.mjs
}

stage_python() {
  sdk_stage
  limited "building corespan-bench" $build_seconds cargo build --bin corespan-bench
  export CORESPAN_TEST_BENCH=$target/debug/corespan-bench
  limited "the Python tests" $tests_seconds "$python_venv/bin/python" -m unittest discover --start-directory "$sdk_python" --verbose
}

stage_go() {
  sdk_stage
  cd "$sdk_go"
  limited "the Go tests" $tests_seconds "$(go_command)" test -count=1 -timeout 180s -v ./...
}

stage_java() {
  sdk_stage
  limited "the Java tests" $tests_seconds mvn --batch-mode --no-transfer-progress -f "$sdk_java/pom.xml" test
}

stage_browser() {
  limited "building corespan" $build_seconds cargo build --bin corespan
  export CORESPAN_TEST_BIN=$target/debug/corespan
  node_tests "$sdk_js"/browser/*.test.mjs
}

# The Kafka Connect plug-in: its own tests, then all of it on a real Connect service. CORESPAN_BIN names a binary to use in place of a debug build.
stage_connect() {
  limited "the plug-in's tests" 600 mvn --batch-mode --no-transfer-progress -f connect/pom.xml verify
  if [ -z "${CORESPAN_BIN:-}" ]; then
    limited "building corespan" $build_seconds cargo build --bin corespan
    export CORESPAN_BIN=$target/debug/corespan
  fi
  export CORESPAN_KAFKA_LIBS=$kafka_libs
  limited "the connector on a Connect service" 480 python3 -u connect/test/distributed.py
}

# Every test has a limit of its own too: support/test.mjs.
node_tests() {
  limited "the tests" $tests_seconds node --test --test-reporter=spec --test-concurrency=1 "$@"
}

sdk_stage() {
  limited "building corespan" $build_seconds cargo build --bin corespan
  test_kafka_up one
  source "$test_dir/kafka.env"
  export CORESPAN_TEST_BIN=$target/debug/corespan
}

# Starts the cluster NAME for the tests unless it runs, on ports that are free, and adds its addresses to kafka.env. It outlives the stage, not the run.
test_kafka_up() {
  local name=$1 port
  shift
  export CORESPAN_KAFKA_DIR=$test_dir/kafka/$name
  [ ! -e "$CORESPAN_KAFKA_DIR/ready" ] || return 0
  # Nothing else takes ports from here to 32767: tests/README.md has the list.
  for port in $(shuf -i 300-326 -n 20); do
    port=${port}00
    port_is_free "$port" && port_is_free $((port + 10)) && port_is_free $((port + 20)) || continue
    CORESPAN_KAFKA_PORT=$port limited "kafka up" 240 env --unset=CORESPAN_TEST_STAGE "$top/dev" kafka up "$@"
    : >"$CORESPAN_KAFKA_DIR/ready"
    case $name in
      one) echo "export CORESPAN_TEST_KAFKA=127.0.0.1:$port" ;;
      three) echo "export CORESPAN_TEST_KAFKA_3=127.0.0.1:$port,127.0.0.1:$((port + 1)),127.0.0.1:$((port + 2)) CORESPAN_TEST_KAFKA_3_DIR=$CORESPAN_KAFKA_DIR" ;;
      sasl)
        echo "export CORESPAN_TEST_KAFKA_SASL=127.0.0.1:$((port + 20)) CORESPAN_TEST_KAFKA_SASL_PLAIN=127.0.0.1:$port"
        echo "export CORESPAN_TEST_KAFKA_CA=$CORESPAN_KAFKA_DIR/ca.pem"
        ;;
    esac >>"$test_dir/kafka.env"
    echo "export CORESPAN_TEST_KAFKA_DEV=$top/dev" >>"$test_dir/kafka.env"
    return
  done
  fail "no free port found for Kafka"
}

test_kafka_down() {
  local name
  [ $# -gt 0 ] || set -- one three sasl
  for name in "$@"; do
    [ ! -e "$test_dir/kafka/$name/shape" ] || CORESPAN_KAFKA_DIR=$test_dir/kafka/$name limited "kafka down" 60 "$top/dev" kafka down || true
  done
  [ -d "$test_dir/kafka" ] && rmdir "$test_dir/kafka" 2>/dev/null && rm -f "$test_dir/kafka.env" || true
}
