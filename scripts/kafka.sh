# A real Apache Kafka on this machine, and its tools: `./dev kafka ...`. Sourced by ./dev.
#
# A cluster is a folder: shape (brokers, sasl, connect, ports), and for every broker its configuration, log, pid and data.
# Ports, counted from the cluster's first: +0.. plain listeners, +10.. controllers, +20.. SASL_SSL listeners, +30 Kafka Connect's REST interface.
source "$scripts/setup.sh"

kafka_user=alice
kafka_password=alice-secret
# A second user, who may do only what is granted to her with AclCommand.
kafka_user_limited=bob
kafka_password_limited=bob-secret
kafka_seconds_to_start=60
kafka_seconds_to_end=20

kafka() {
  local action=${1:-help}
  [ $# -eq 0 ] || shift
  case $action in
    up) kafka_up "$@" ;;
    down) kafka_down "$@" ;;
    status) kafka_status "$@" ;;
    kill) kafka_kill "$@" ;;
    start) kafka_start_again "$@" ;;
    help | -h | --help) help | sed -n '/dev kafka/,/^$/p' ;;
    *) kafka_tool "$action" "$@" ;;
  esac
}

# ---- Kafka's own tools ---------------------------------------------------------------------------------------------

# Java, and how it ends at the latest: with the shell that waits for it, and, if there is a limit, after so many seconds.
kafka_bounds=(setpriv --pdeathsig KILL)
[ -z "${CORESPAN_KAFKA_TOOL_SECONDS:-}" ] ||
  kafka_bounds+=(timeout --verbose --kill-after=5 "$CORESPAN_KAFKA_TOOL_SECONDS" setpriv --pdeathsig KILL)

kafka_java() {
  local heap=$1
  shift
  # The star is for Java, which expands it to all jars.
  "${kafka_bounds[@]}" java "-Xms64m" "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true \
    "-Dlog4j2.configurationFile=file:$scripts/kafka/log4j2.properties" -cp "$kafka_libs/*" "$@"
}

kafka_class() {
  case $1 in
    *.*) echo "$1" ;;
    StorageTool | ConfigCommand | Kafka) case $1 in
      StorageTool) echo kafka.tools.StorageTool ;;
      ConfigCommand) echo kafka.admin.ConfigCommand ;;
      Kafka) echo kafka.Kafka ;;
    esac ;;
    ConsoleConsumer) echo org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    ConsumerGroupCommand) echo org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    ConnectDistributed | ConnectStandalone) echo "org.apache.kafka.connect.cli.$1" ;;
    [A-Z]*) echo "org.apache.kafka.tools.$1" ;;
    *) fail "no kafka command '$1'; ./dev help lists them" ;;
  esac
}

kafka_tool() {
  local class
  class=$(kafka_class "$1")
  shift
  setup_kafka
  local status=0
  kafka_java 256m "$class" "$@" || status=$?
  [ $status -ne 124 ] || fail "Kafka's $class ran over its limit of $CORESPAN_KAFKA_TOOL_SECONDS s (CORESPAN_KAFKA_TOOL_SECONDS)"
  return $status
}

# ---- Clusters ------------------------------------------------------------------------------------------------------

kafka_up() {
  local brokers=1 sasl=no connect=no
  while [ $# -gt 0 ]; do
    case $1 in
      --brokers) brokers=${2:-} && shift ;;
      --brokers=*) brokers=${1#*=} ;;
      --sasl) sasl=yes ;;
      --connect) connect=yes ;;
      *) fail "kafka up does not know '$1'; it takes --brokers N, --sasl and --connect" ;;
    esac
    shift
  done
  [[ $brokers =~ ^[1-9]$ ]] || fail "--brokers wants 1 to 9, not '$brokers'"
  setup_kafka

  local name=$brokers port=9092
  [ "$brokers" = 1 ] || port=9192
  [ $sasl = no ] || { name=$name-sasl && port=$((port + 200)); }
  port=${CORESPAN_KAFKA_PORT:-$port}
  dir=$(realpath -m "${CORESPAN_KAFKA_DIR:-$cache/kafka/$name}")

  if [ -e "$dir/shape" ]; then
    if kafka_running; then
      (source "$dir/shape" && [ "$shape_brokers $shape_sasl $shape_connect $shape_port" = "$brokers $sasl $connect $port" ]) ||
        fail "another kind of cluster runs in $dir; first: CORESPAN_KAFKA_DIR=$dir ./dev kafka down"
      kafka_print
      return
    fi
    rm -rf "$dir"
  fi
  local free
  for free in $(kafka_ports); do
    port_is_free "$free" || fail "port $free is in use; choose another with CORESPAN_KAFKA_PORT (first port of the cluster)"
  done
  mkdir -p "$dir"
  printf 'shape_brokers=%s shape_sasl=%s shape_connect=%s shape_port=%s\n' "$brokers" $sasl $connect "$port" >"$dir/shape"
  [ $sasl = no ] || kafka_certificate
  kafka_configure
  local id
  for id in $(seq "$brokers"); do kafka_spawn "$id"; done
  for id in $(seq "$brokers"); do kafka_await "$id"; done
  [ $connect = no ] || kafka_connect_up
  kafka_print
}

kafka_ports() {
  local index
  for index in $(seq 0 $((brokers - 1))); do
    echo $((port + index)) $((port + 10 + index))
    [ "$sasl" = no ] || echo $((port + 20 + index))
  done
  [ "$connect" = no ] || echo $((port + 30))
}

# The plain listeners of a running cluster, as Kafka clients want them.
kafka_bootstrap() {
  (source "$dir/shape" && seq -s , -f '127.0.0.1:%.0f' "$shape_port" $((shape_port + shape_brokers - 1)))
}
kafka_bootstrap_sasl() {
  (source "$dir/shape" && seq -s , -f '127.0.0.1:%.0f' $((shape_port + 20)) $((shape_port + 20 + shape_brokers - 1)))
}

kafka_certificate() {
  timeout 60 openssl req -x509 -nodes -newkey rsa:2048 -days 365 -subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
    -keyout "$dir/key.pem" -out "$dir/ca.pem" 2>"$dir/openssl.log" || fail "openssl could not make a certificate: $(tail -n 3 "$dir/openssl.log")"
  cat "$dir/key.pem" "$dir/ca.pem" >"$dir/keystore.pem"
}

kafka_configure() {
  local cluster_id id index voters=() replicas=$((brokers < 3 ? brokers : 3)) format=() settings=${CORESPAN_KAFKA_SETTINGS:-}
  cluster_id=$(kafka_java 128m kafka.tools.StorageTool random-uuid 2>>"$dir/format.log")
  for id in $(seq "$brokers"); do voters+=("$id@127.0.0.1:$((port + 10 + id - 1))"); done
  [ "$brokers" != 1 ] || format+=(--standalone)
  [ "$sasl" = no ] || format+=(
    --add-scram "SCRAM-SHA-512=[name=$kafka_user,password=$kafka_password]"
    --add-scram "SCRAM-SHA-256=[name=$kafka_user,password=$kafka_password]"
    --add-scram "SCRAM-SHA-512=[name=$kafka_user_limited,password=$kafka_password_limited]"
  )
  for id in $(seq "$brokers"); do
    index=$((id - 1))
    mkdir -p "$dir/$id"
    {
      echo process.roles=broker,controller
      echo node.id="$id"
      if [ "$brokers" = 1 ]; then
        echo controller.quorum.bootstrap.servers=127.0.0.1:$((port + 10))
      else
        echo controller.quorum.voters="$(IFS=, && echo "${voters[*]}")"
      fi
      echo controller.listener.names=CONTROLLER
      echo inter.broker.listener.name=PLAINTEXT
      echo log.dirs="$dir/$id/data"
      if [ "$sasl" = no ]; then
        echo listeners=PLAINTEXT://127.0.0.1:$((port + index)),CONTROLLER://127.0.0.1:$((port + 10 + index))
        echo listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
      else
        echo listeners=PLAINTEXT://127.0.0.1:$((port + index)),SASL_SSL://127.0.0.1:$((port + 20 + index)),CONTROLLER://127.0.0.1:$((port + 10 + index))
        echo listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
        echo sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER
        echo ssl.keystore.type=PEM
        echo ssl.keystore.location="$dir/keystore.pem"
        local scram=org.apache.kafka.common.security.scram.ScramLoginModule
        echo "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$scram required;"
        echo "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=$scram required;"
        echo "listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$kafka_user=\"$kafka_password\" user_$kafka_user_limited=\"$kafka_password_limited\";"
        # Unsecured tokens ("alg":"none"), whose `sub` is the user. The broker shows its own nowhere, and does not start without one.
        echo "listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"$kafka_user\";"
        echo authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
        echo "super.users=User:ANONYMOUS;User:$kafka_user"
        echo allow.everyone.if.no.acl.found=false
      fi
      echo default.replication.factor="$replicas"
      echo offsets.topic.replication.factor="$replicas"
      echo transaction.state.log.replication.factor="$replicas"
      echo min.insync.replicas=$((replicas > 1 ? replicas - 1 : 1))
      echo transaction.state.log.min.isr=$((replicas > 1 ? replicas - 1 : 1))
      # A dead broker is noticed within seconds.
      echo broker.session.timeout.ms=3000
      echo broker.heartbeat.interval.ms=500
      # Small and quick: this Kafka serves tests and trials on a laptop.
      printf '%s\n' num.partitions=1 num.network.threads=2 num.io.threads=4 background.threads=2 offsets.topic.num.partitions=1 \
        transaction.state.log.num.partitions=1 group.initial.rebalance.delay.ms=0 log.initial.task.delay.ms=500 \
        log.retention.check.interval.ms=1000 log.cleaner.threads=1 log.cleaner.dedupe.buffer.size=8388608 log.cleaner.backoff.ms=500 \
        auto.create.topics.enable=false
      # Last, because the last of two lines with the same key counts.
      printf '%s\n' "${settings//"{id}"/$id}"
    } >"$dir/$id/server.properties"
    (kafka_java 128m kafka.tools.StorageTool format -t "$cluster_id" -c "$dir/$id/server.properties" --ignore-formatted "${format[@]}") \
      >>"$dir/format.log" 2>&1 || fail "Kafka could not format its data folder:
$(tail -n 10 "$dir/format.log")"
  done
}

# Whether what was just started is gone. On a busy machine it may not have become Java yet, so its command line says nothing.
kafka_ended() {
  local pid
  pid=$(cat "$dir/$1/pid")
  ! [ -e "/proc/$pid" ] || grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null
}

# Starts broker ID of the cluster in `dir`, detached from this terminal and its open files.
kafka_spawn() {
  local id=$1
  : >"$dir/$id/server.log"
  (
    cd "$dir/$id"
    export JAVA_TOOL_OPTIONS=
    setsid nohup java -Xms128m -Xmx512m -XX:+UseSerialGC -Djava.awt.headless=true -Dcorespan.log=info \
      "-Dlog4j2.configurationFile=file:$scripts/kafka/log4j2.properties" -cp "$kafka_libs/*" kafka.Kafka "$dir/$id/server.properties" \
      </dev/null >"$dir/$id/server.log" 2>&1 9>&- &
    echo $! >"$dir/$id/pid"
    kafka_guard $!
  )
}

# Broker or Connect with this pid ends when the process does that CORESPAN_KAFKA_OWNER names.
kafka_guard() {
  [ -n "${CORESPAN_KAFKA_OWNER:-}" ] || return 0
  setsid "$scripts/guard.sh" "$CORESPAN_KAFKA_OWNER" java "$1" </dev/null >/dev/null 2>&1 9>&- &
}

kafka_await() {
  local id=$1 deadline=$((SECONDS + kafka_seconds_to_start))
  until grep -q 'Kafka Server started' "$dir/$id/server.log"; do
    ! kafka_ended "$id" || kafka_not_up "$id" "ended"
    [ $SECONDS -lt $deadline ] || kafka_not_up "$id" "is not up after $kafka_seconds_to_start s"
    sleep 0.1
  done
}

kafka_not_up() {
  local log=$dir/$1/server.log
  fail "Kafka ($1 in $dir) $2; the end of its log, $log:
$(grep -v ' INFO ' "$log" | tail -n 15)
$(tail -n 5 "$log")"
}

# Asks for the command line too: a pid may have gone to another process since, or its process be dead and not yet reaped.
kafka_pid_alive() { grep -qaF -- "$dir/" "/proc/$1/cmdline" 2>/dev/null; }
kafka_alive() { [ -e "$dir/$1/pid" ] && kafka_pid_alive "$(cat "$dir/$1/pid")"; }

kafka_connect_up() {
  local id=connect rest=$((port + 30)) deadline
  mkdir -p "$dir/connect/plugins"
  {
    printf '%s\n' "bootstrap.servers=127.0.0.1:$port" group.id=connect offset.flush.interval.ms=1000 scheduled.rebalance.max.delay.ms=0 \
      "listeners=http://127.0.0.1:$rest" "plugin.path=${CORESPAN_CONNECT_PLUGINS:-$dir/connect/plugins}" \
      key.converter=org.apache.kafka.connect.storage.StringConverter value.converter=org.apache.kafka.connect.storage.StringConverter
    local kind
    for kind in config offset status; do
      echo "$kind.storage.topic=connect-$kind"
      echo "$kind.storage.replication.factor=1"
    done
  } >"$dir/connect/connect.properties"
  : >"$dir/connect/server.log"
  (
    cd "$dir/connect"
    setsid nohup java -Xms128m -Xmx512m -XX:+UseSerialGC -Djava.awt.headless=true -Dcorespan.log=info \
      "-Dlog4j2.configurationFile=file:$scripts/kafka/log4j2.properties" -cp "$kafka_libs/*" \
      org.apache.kafka.connect.cli.ConnectDistributed "$dir/connect/connect.properties" </dev/null >"$dir/connect/server.log" 2>&1 9>&- &
    echo $! >"$dir/connect/pid"
    kafka_guard $!
  )
  deadline=$((SECONDS + kafka_seconds_to_start))
  until [ "$(curl --silent --max-time 2 "http://127.0.0.1:$rest/connectors")" = '[]' ]; do
    ! kafka_ended $id || kafka_not_up $id "ended"
    [ $SECONDS -lt $deadline ] || kafka_not_up $id "does not answer on port $rest after $kafka_seconds_to_start s"
    sleep 0.2
  done
}

kafka_print() {
  (
    source "$dir/shape"
    echo "Apache Kafka $kafka_version, brokers: $shape_brokers, in $dir"
    echo "bootstrap.servers=$(kafka_bootstrap)"
    if [ "$shape_sasl" = yes ]; then
      echo
      echo "# with SASL and TLS (mechanisms SCRAM-SHA-512, SCRAM-SHA-256, PLAIN, OAUTHBEARER with unsecured tokens), for librdkafka:"
      echo "bootstrap.servers=$(kafka_bootstrap_sasl)"
      echo security.protocol=SASL_SSL
      echo sasl.mechanisms=SCRAM-SHA-512
      echo sasl.username=$kafka_user
      echo sasl.password=$kafka_password
      echo "# or $kafka_user_limited, $kafka_password_limited, who has only the rights that ./dev kafka AclCommand gives to User:$kafka_user_limited"
      echo ssl.ca.location="$dir/ca.pem"
    fi
    [ "$shape_connect" = no ] || echo "Kafka Connect: http://127.0.0.1:$((shape_port + 30))/connectors"
  )
}

# Is any process of the cluster in `dir` alive?
kafka_running() {
  local pid
  for pid in "$dir"/*/pid; do
    [ -e "$pid" ] && kafka_pid_alive "$(cat "$pid")" && return
  done
  return 1
}

# The folders of the clusters this command is about.
kafka_dirs() {
  local shape
  if [ -n "${CORESPAN_KAFKA_DIR:-}" ]; then
    realpath -m "$CORESPAN_KAFKA_DIR"
  else
    for shape in "$cache"/kafka/*/shape; do
      [ ! -e "$shape" ] || dirname "$shape"
    done
  fi
}

kafka_status() {
  local found=no id pid
  while read -r dir; do
    [ -e "$dir/shape" ] || continue
    found=yes
    kafka_print
    for pid in "$dir"/*/pid; do
      [ -e "$pid" ] || continue
      id=$(basename "$(dirname "$pid")")
      if kafka_alive "$id"; then echo "  $id: pid $(cat "$pid")"; else echo "  $id: not running"; fi
    done
  done < <(kafka_dirs)
  [ $found = yes ] || { echo "no Kafka runs; ./dev kafka up starts one" && return 1; }
}

kafka_down() {
  local pid pids
  while read -r dir; do
    [ -e "$dir/shape" ] || continue
    pids=()
    for pid in "$dir"/*/pid; do
      # The data goes away with the cluster, so there is nothing that a gentle end would save.
      [ -e "$pid" ] && kafka_pid_alive "$(cat "$pid")" || continue
      pids+=("$(cat "$pid")")
      kill -9 "${pids[-1]}"
    done
    for pid in ${pids[@]+"${pids[@]}"}; do kafka_await_end "$pid"; done
    rm -rf "$dir"
    say "Kafka in $dir is stopped and its data deleted"
  done < <(kafka_dirs)
}

# Sets `dir` to the one cluster that `kill` and `start` are about.
kafka_one_dir() {
  local dirs
  mapfile -t dirs < <(kafka_dirs)
  [ ${#dirs[@]} -eq 1 ] && [ -e "${dirs[0]}/shape" ] || fail "which cluster? Set CORESPAN_KAFKA_DIR to one of: ${dirs[*]:-none runs}"
  dir=${dirs[0]}
  [ -n "${1:-}" ] && [ -d "$dir/$1" ] || fail "which broker? $dir has: $(cd "$dir" && echo [0-9]*)"
}

kafka_kill() {
  kafka_one_dir "$@"
  kafka_alive "$1" || fail "broker $1 in $dir does not run"
  local pid
  pid=$(cat "$dir/$1/pid")
  kill -9 "$pid"
  kafka_await_end "$pid"
}

# A process that was ended with -9 goes at once, unless the kernel holds it. It has lost its command line before its sockets, and those with its last
# thread only.
kafka_await_end() {
  local deadline=$((SECONDS + kafka_seconds_to_end))
  while [ -e "/proc/$1" ] && ! { grep -q '^State:.*Z' "/proc/$1/status" && [ "$(ls "/proc/$1/task" | wc -l)" -le 1 ]; } 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || fail "process $1 of the Kafka in $dir still runs $kafka_seconds_to_end s after kill -9"
    sleep 0.02
  done
}

kafka_start_again() {
  kafka_one_dir "$@"
  ! kafka_alive "$1" || fail "broker $1 in $dir runs"
  kafka_spawn "$1"
  kafka_await "$1"
}
