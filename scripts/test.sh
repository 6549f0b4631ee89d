# `./dev test`: every check and test of the project in one order, and a summary. Sourced by ./dev.
#
# A stage is a function stage_NAME; it passes if it exits with 0, has run at least one test where it counts tests, and has skipped none.
# Its output goes to the terminal and to .cache/test/NAME.log.
source "$scripts/setup.sh"

stages=(fmt clippy rust kafka sim js python browser)
test_dir=$cache/test
target=${CARGO_TARGET_DIR:-$top/target}
rows=()
sum_passed=0
sum_failed=0

run_tests() {
  local chosen=() keep_going=no stage
  while [ $# -gt 0 ]; do
    case $1 in
      --keep-going) keep_going=yes ;;
      *)
        case " ${stages[*]} " in *" $1 "*) ;; *) fail "no stage '$1'; there are: ${stages[*]}" ;; esac
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
  test_kafka_down
  trap test_end EXIT
  trap 'exit 130' INT TERM

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

# Stops what runs for the tests and prints the summary, however the run ended.
test_end() {
  local status=$? row stage result counts seconds
  trap - EXIT
  test_kafka_down
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
  local name=$1 log=$test_dir/$1.log begin=$SECONDS status passed failed skipped counts result=ok
  shift
  say ""
  say "=== $name"
  set +e
  (
    set -e
    "stage_$name" "$@"
  ) 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  set -e
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

# Passed, failed and skipped tests in the log of a stage, each tool's own words added up; a stage without tests counts as one, with "-" skipped.
count_tests() {
  case $1 in
    # Tests that need Kafka are ignored by `cargo test`; the stage kafka runs exactly these.
    rust | kafka) awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } } END { print p+0, f+0, 0 }' "$2" ;;
    js | browser) awk '/^ℹ (pass|fail|cancelled|skipped|todo) [0-9]+$/ { n[$2] += $3 } END { print n["pass"]+0, n["fail"]+n["cancelled"]+0, n["skipped"]+n["todo"]+0 }' "$2" ;;
    python) awk '
      /^Ran [0-9]+ tests? in/ { ran += $2 }
      /^(OK|FAILED)/ { while (match($0, /[a-z]+=[0-9]+/)) { split(substr($0, RSTART, RLENGTH), kv, "="); n[kv[1]] += kv[2]; $0 = substr($0, RSTART + RLENGTH) } }
      END { f = n["failures"] + n["errors"]; s = n["skipped"]; print ran - f - s, f + 0, s + 0 }' "$2" ;;
    *) echo 1 0 - ;;
  esac
}

# Ends COMMAND after SECONDS, with all that it started; in a terminal, Ctrl-C still reaches it.
limit() {
  local foreground=()
  [ ! -t 0 ] || foreground=(--foreground)
  timeout --kill-after=10 ${foreground[@]+"${foreground[@]}"} "$@"
}

stage_setup() {
  local stage
  setup rust
  for stage in "$@"; do
    case $stage in
      fmt) cargo fmt --version >/dev/null || fail "cargo fmt is missing: rustup component add rustfmt" ;;
      clippy)
        cargo clippy --version >/dev/null || fail "cargo clippy is missing: rustup component add clippy"
        setup system page
        ;;
      rust | sim) setup system page ;;
      kafka) setup system page kafka ;;
      js) setup system page node kafka ;;
      python) setup system page python kafka ;;
      browser) setup system page browser ;;
    esac
  done
}

stage_fmt() { cargo fmt --check; }
stage_clippy() { cargo clippy --all-targets -- -D warnings; }
stage_rust() { limit 1200 cargo test --no-fail-fast; }

# The tests that `cargo test` ignores because they need Apache Kafka: one broker, three brokers, one with SASL and TLS.
stage_kafka() {
  cargo test --no-run
  test_kafka_up one
  test_kafka_up three --brokers 3
  test_kafka_up sasl --sasl
  source "$test_dir/kafka.env"
  limit 900 cargo test --no-fail-fast -- --ignored --test-threads=2
  test_kafka_down three sasl
}

stage_sim() {
  cargo build --bin corespan-sim
  limit 60 "$target/debug/corespan-sim" --seeds 2000
}

stage_js() {
  sdk_stage
  limit 600 node --test --test-reporter=spec --test-concurrency=1 "$sdk_js"/*.test.mjs
}

stage_python() {
  sdk_stage
  limit 600 "$python_venv/bin/python" -m unittest discover --start-directory "$sdk_python" --verbose
}

stage_browser() {
  cargo build --bin corespan
  export CORESPAN_TEST_BIN=$target/debug/corespan
  limit 600 node --test --test-reporter=spec --test-concurrency=1 "$sdk_js"/browser/*.test.mjs
}

sdk_stage() {
  cargo build --bin corespan
  test_kafka_up one
  source "$test_dir/kafka.env"
  export CORESPAN_TEST_BIN=$target/debug/corespan
}

# Starts the cluster NAME for the tests unless it runs, on ports that are free, and adds its addresses to kafka.env.
test_kafka_up() {
  local name=$1 port
  shift
  export CORESPAN_KAFKA_DIR=$test_dir/kafka/$name
  [ ! -e "$CORESPAN_KAFKA_DIR/ready" ] || return 0
  for port in $(shuf -i 200-299 -n 20); do
    port=${port}00
    port_is_free "$port" && port_is_free $((port + 10)) && port_is_free $((port + 20)) || continue
    CORESPAN_KAFKA_PORT=$port "$top/dev" kafka up "$@"
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
    [ ! -e "$test_dir/kafka/$name/shape" ] || CORESPAN_KAFKA_DIR=$test_dir/kafka/$name "$top/dev" kafka down
  done
  [ -d "$test_dir/kafka" ] && rmdir "$test_dir/kafka" 2>/dev/null && rm -f "$test_dir/kafka.env" || true
}
