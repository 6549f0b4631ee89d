#!/usr/bin/env python3
"""The connector on a real Kafka Connect distributed service: two workers, Apache Kafka, corespan.

    CORESPAN_BIN=target/release/corespan python3 connect/test/distributed.py [tutorial] [bad] [lifecycle] [start] [carry] [gap] [tls] [token] [outage] [kill] [exactly] [nodes]

Needs target/corespan-connect (mvn -f connect/pom.xml verify) and Apache Kafka's jars (./dev kafka fetches them to .cache; CORESPAN_KAFKA_LIBS names
another folder). Everything that it starts ends with it. Each part says "ok" or the script fails; the folder with all logs is named at a failure.
"""
import base64, collections, ctypes, hashlib, hmac, http.server, json, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time, urllib.error, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIBS = os.environ.get("CORESPAN_KAFKA_LIBS", os.path.join(ROOT, ".cache", "kafka-4.1.1"))
PLUGIN = os.path.join(ROOT, "connect", "target", "corespan-connect")
BIN = os.environ.get("CORESPAN_BIN", os.path.join(ROOT, "target", "release", "corespan"))
FOLDER = tempfile.mkdtemp(prefix="corespan-connect-")
MESSAGES = int(os.environ.get("CORESPAN_TEST_MESSAGES", "100000"))
SUBJECTS = 200
PARTS = ["tutorial", "bad", "lifecycle", "start", "carry", "gap", "tls", "token", "outage", "kill", "exactly", "nodes"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


BROKER, CONTROLLER = free_port(), free_port()
BOOTSTRAP = f"127.0.0.1:{BROKER}"


# ---- Processes

def die_with_parent():
    ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)


class Process:
    all = []

    def __init__(self, name, command):
        self.name, self.log = name, os.path.join(FOLDER, f"{name}.log")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(self.log, "a"), stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        Process.all.append(self)

    def kill(self):
        self.process.kill()
        self.process.wait()


def java(memory, *args):
    return ["java", "-Xms64m", f"-Xmx{memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile=file:{FOLDER}/log4j2.properties", "-cp", f"{LIBS}/*", *args]


def write(name, *lines):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")
    return path


def until(what, check, seconds=60, every=0.2):
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            last = check()
            if last:
                return last
        except (OSError, urllib.error.URLError) as error:
            last = error
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what} (last: {last!r})")


def has(log, text):
    with open(log, errors="replace") as f:
        return text in f.read()


def kafka_up():
    write("log4j2.properties", "status=error", "appender.c.type=Console", "appender.c.name=c", "appender.c.layout.type=PatternLayout",
          "appender.c.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1} %m%n", "rootLogger.level=info", "rootLogger.appenderRef.c.ref=c")
    config = write(
        "server.properties", "process.roles=broker,controller", "node.id=1", f"controller.quorum.bootstrap.servers=127.0.0.1:{CONTROLLER}",
        "controller.listener.names=CONTROLLER", f"listeners=PLAINTEXT://{BOOTSTRAP},CONTROLLER://127.0.0.1:{CONTROLLER}", f"log.dirs={FOLDER}/data",
        "offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "num.partitions=1",
        "offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=1", "group.initial.rebalance.delay.ms=0", "auto.create.topics.enable=false")
    identity = subprocess.run(java("128m", "kafka.tools.StorageTool", "random-uuid"), check=True, timeout=60, capture_output=True, text=True).stdout.split()[-1]
    subprocess.run(java("128m", "kafka.tools.StorageTool", "format", "-t", identity, "-c", config, "--standalone"), check=True, timeout=60, capture_output=True)
    broker = Process("broker", java("512m", "kafka.Kafka", config))
    until("Kafka", lambda: has(broker.log, "Kafka Server started"))


def topic(name, partitions=1):
    subprocess.run(java("128m", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", BOOTSTRAP, "--create", "--topic", name, "--partitions", str(partitions)),
                   check=True, timeout=60, capture_output=True)


def consume(name, wait_ms=8000, count=None, committed=False, more=()):
    """(key, value) of every record, as the console consumer shows them."""
    command = java("256m", "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", BOOTSTRAP, "--topic", name, "--from-beginning",
                   "--timeout-ms", str(wait_ms), "--property", "print.key=true", "--property", "key.separator=|")
    for shown in more:
        command += ["--property", f"{shown}=true"]
    if count:
        command += ["--max-messages", str(count)]
    if committed:
        command += ["--isolation-level", "read_committed"]
    out = subprocess.run(command, timeout=180, capture_output=True, text=True).stdout
    return [tuple(line.split("|", 1)) for line in out.splitlines() if "|" in line]


class Bridge:
    """head: more lines of configuration, each key by its full name; listen: more of [listen]."""

    def __init__(self, name, topics, head=(), listen=()):
        self.name, self.port, self.admin, self.topics, self.head, self.listen = name, free_port(), free_port(), topics, head, listen
        self.start()

    def start(self, recovery=True):
        config = write(f"{self.name}.toml", "drain.seconds = 1", *self.head, "[listen]", f'address = "127.0.0.1:{self.port}"', f'admin = "127.0.0.1:{self.admin}"',
                       *self.listen, "[cores]", "shards = 1", "[kafka.consumer]", f'"bootstrap.servers" = "{BOOTSTRAP}"', f"topics = {json.dumps(self.topics)}",
                       f'"recovery.on.start" = {json.dumps(recovery)}', "[kafka.producer]", f'"bootstrap.servers" = "{BOOTSTRAP}"', '"linger.ms" = 5', '"max.in.flight" = 5',
                       "[publish]", "open.max = 2000", "[cache]", "expire.time = 600")
        self.process = Process(self.name, [BIN, "serve", "--config", config])
        until(f"{self.name} ready", lambda: urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/ready", timeout=2).status == 200)

    def kill(self):
        self.process.kill()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"


class Worker:
    def __init__(self, name, group, exactly=False):
        self.name, self.port = name, free_port()
        self.config = write(
            f"{name}.properties", f"bootstrap.servers={BOOTSTRAP}", f"group.id={group}", "key.converter=org.apache.kafka.connect.storage.StringConverter",
            "value.converter=org.apache.kafka.connect.storage.StringConverter", *(f"{kind}.storage.topic={group}-{kind}" for kind in ("config", "offset", "status")),
            *(f"{kind}.storage.replication.factor=1" for kind in ("config", "offset", "status")), "offset.storage.partitions=1", "status.storage.partitions=1",
            "offset.flush.interval.ms=1000", "scheduled.rebalance.max.delay.ms=0", "session.timeout.ms=6000", "heartbeat.interval.ms=1000",
            f"listeners=http://127.0.0.1:{self.port}", f"plugin.path={FOLDER}/plugins", "plugin.discovery=service_load",
            *(["exactly.once.source.support=enabled"] if exactly else []))
        self.process = Process(name, java("512m", "org.apache.kafka.connect.cli.ConnectDistributed", self.config))

    def ready(self):
        until(f"{self.name} answers", lambda: self.call("GET", "/connectors") is not None, 90)

    def call(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text else {}

    def running(self, connector, tasks, seconds=60):
        def check():
            status = self.call("GET", f"/connectors/{connector}/status")
            states = [status["connector"]["state"]] + [task["state"] for task in status["tasks"]]
            assert "FAILED" not in states, status
            return states == ["RUNNING"] * (tasks + 1)
        until(f"{connector} RUNNING", check, seconds)

    def kill(self):
        self.process.kill()


# ---- A web client: WebSocket and the protocol's JSON, from the standard library

class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.buffer, self.id = b"", 0
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head.split(b"\r\n")[0], head
        self.send([{"id": self.next(), "connect": {}}])
        self.answers(1)

    def next(self):
        self.id += 1
        return self.id

    def more(self):
        got = self.socket.recv(65536)
        assert got, "the bridge closed the connection"
        self.buffer += got

    def take(self, count):
        while len(self.buffer) < count:
            self.more()
        got, self.buffer = self.buffer[:count], self.buffer[count:]
        return got

    def send(self, commands):
        data = "\n".join(json.dumps(command) for command in commands).encode()
        head = bytes([0x81]) + (bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + struct.pack(">H", len(data)) if len(data) < 65536 else bytes([0xFF]) + struct.pack(">Q", len(data)))
        self.socket.sendall(head + b"\0\0\0\0" + data)

    def answers(self, count):
        while count:
            first, second = self.take(2)
            length = second & 0x7F
            length = struct.unpack(">H", self.take(2))[0] if length == 126 else struct.unpack(">Q", self.take(8))[0] if length == 127 else length
            data = self.take(length)
            assert first & 0x0F in (1, 2), (first, data)
            for line in data.split(b"\n"):
                reply = json.loads(line) if line else {}
                if reply == {}:
                    self.send([{}])
                elif "id" in reply:
                    assert "error" not in reply, reply
                    count -= 1

    def publish(self, records):
        """All of (subject, data), acknowledged."""
        for at in range(0, len(records), 500):
            some = records[at:at + 500]
            self.send([{"id": self.next(), "publish": {"channel": subject, "data": data}} for subject, data in some])
            self.answers(len(some))


def settings(servers, tasks, **more):
    return {"connector.class": "com.corespan.connect.CorespanSourceConnector", "tasks.max": str(tasks), "corespan.servers": ",".join(servers),
            **{name.replace("__", "."): value for name, value in more.items()}}


# ---- The parts

def tutorial(workers, bridges):
    """The commands of README.md, as they stand; then what a web client publishes."""
    page(BRIDGE=bridges[0].address, CONNECT=f"http://127.0.0.1:{workers[0].port}")
    config = settings([bridges[0].address], 2)
    config.update({"corespan.subject.server.status1": "topic1", "corespan.subject.server.status2": "topic2", "corespan.key.server.status2": "mykey"})
    workers[0].call("PUT", "/connectors/tutorial/config", config)
    workers[1].running("tutorial", 2)
    subscribed(workers, 4)
    Client(bridges[0].port).publish([("/server/status1", "three"), ("/server/status2", "three")])
    got1, got2 = consume("topic1", count=2), consume("topic2", count=2)
    assert got1 == [("null", "one"), ("null", '"three"')], got1
    assert got2 == [("mykey", "two"), ("mykey", '"three"')], got2


def page(**where):
    """Every sh block prints what the text block behind it shows."""
    with open(os.path.join(ROOT, "connect", "README.md")) as f:
        blocks = re.findall(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", f.read(), re.M | re.S)
    assert len(blocks) >= 6, blocks
    mark = "---- end of block"
    script = "set -eu\n" + "".join(f"{commands}echo '{mark}'\n" for commands, _ in blocks)
    environment = {**os.environ, **where, "KAFKA": BOOTSTRAP, "PLUGINS": os.path.join(FOLDER, "page-plugins"), "CORESPAN_CACHE": os.path.dirname(LIBS)}
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, timeout=240, capture_output=True, text=True, preexec_fn=die_with_parent)
    # Maven resets a terminal's colours where there is none.
    got = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).split(mark + "\n")
    for (commands, wanted), printed in zip(blocks, got):
        assert printed == wanted, f"{commands}\nprints\n{printed}\nin place of\n{wanted}\n{done.stderr}"
    assert done.returncode == 0 and len(got) == len(blocks) + 1, done.stderr


def said(workers, pattern):
    """What of the workers' logs matches."""
    return re.findall(pattern, "".join(open(worker.process.log, errors="replace").read() for worker in workers))


def subscribed(workers, count):
    """The task is RUNNING before it is subscribed, and by default begins with what arrives from then on."""
    until(f"{count} subscriptions", lambda: sum(int(n) for n in said(workers, r"(\d+) of \d+ subjects are live")) >= count, 30)


def failed(worker, connector):
    """The trace of its one task, when that has failed."""
    def check():
        tasks = worker.call("GET", f"/connectors/{connector}/status")["tasks"]
        return tasks and tasks[0]["state"] == "FAILED" and tasks[0]["trace"]
    return until(f"task of {connector} FAILED", check)


def bad(workers, bridges):
    config = settings(["nowhere"], 1, corespan__subject__a="bad topic", corespan__on__gap="maybe")
    try:
        workers[0].call("PUT", "/connectors/bad/config", config)
        raise AssertionError("a bad configuration was taken")
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        assert error.code == 400 and "nowhere" in text and "bad topic" in text and "corespan.on.gap" in text, (error.code, text)


def lifecycle(workers, bridges):
    topic("topic-life")
    config = settings([bridges[0].address], 1, corespan__start="earliest")
    config.update({"corespan.route.1.subject": "/server/v1.2", "corespan.route.1.topic": "topic-life"})
    client, wanted = Client(bridges[0].port), []

    def say(n):
        wanted.append(f'"{n}"')
        client.publish([("/server/v1.2", str(n))])
    workers[0].call("PUT", "/connectors/life/config", config)
    workers[0].running("life", 1)
    say(1)
    workers[0].call("PUT", "/connectors/life/pause")
    until("PAUSED", lambda: workers[0].call("GET", "/connectors/life/status")["tasks"][0]["state"] == "PAUSED")
    say(2)
    workers[0].call("PUT", "/connectors/life/resume")
    workers[0].running("life", 1)
    say(3)
    assert [value for _, value in consume("topic-life", count=3)] == wanted
    workers[0].call("POST", "/connectors/life/restart?includeTasks=true")
    say(4)
    until("RUNNING again", lambda: workers[0].call("GET", "/connectors/life/status")["tasks"][0]["state"] == "RUNNING")
    got = [value for _, value in consume("topic-life", count=4)]
    assert got == wanted, got
    workers[0].call("DELETE", "/connectors/life")
    until("deleted", lambda: "life" not in workers[0].call("GET", "/connectors"))


def start(workers, bridges):
    """With a start topic, a subject that has had no record yet loses none while its task is away."""
    topic("topic-start")
    topic("starts")
    config = settings([bridges[0].address], 1, corespan__subject__server__start="topic-start", corespan__start__topic="starts")
    workers[0].call("PUT", "/connectors/start/config", config)
    stored = until("the start is stored", lambda: workers[0].call("GET", "/connectors/start/offsets")["offsets"])
    assert stored[0]["partition"] == {"subject": "/server/start"}, stored
    workers[0].call("PUT", "/connectors/start/stop")
    until("STOPPED", lambda: workers[0].call("GET", "/connectors/start/status")["connector"]["state"] == "STOPPED" and not workers[0].call("GET", "/connectors/start/status")["tasks"])
    Client(bridges[0].port).publish([("/server/start", "1")])
    workers[0].call("PUT", "/connectors/start/resume")
    assert consume("topic-start", count=1) == [("null", '"1"')]
    offset = stored[0]["offset"]
    assert consume("starts") == [("/server/start", f"{offset['epoch']} {offset['offset']}")]
    workers[0].call("DELETE", "/connectors/start")


def produce(*lines):
    """headers, key and value, with tabs between, to topic `server` behind the bridges' back."""
    subprocess.run(java("128m", "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", BOOTSTRAP, "--topic", "server", "--property", "parse.key=true",
                        "--property", "parse.headers=true", "--property", "null.marker=NULL"),
                   input="".join(line + "\n" for line in lines), text=True, check=True, timeout=60, capture_output=True)


def carry(workers, bridges):
    """Headers, timestamps and tombstones travel, in what is recovered and in what is live."""
    topic("topic-carry")
    config = settings([bridges[0].address], 1, corespan__start="earliest", corespan__subject__server__carry="topic-carry", corespan__key__server__carry="k")
    produce("trace:1\tcarry\tfirst", "trace:2\tcarry\tNULL", "trace:3\tcarry\t")
    time.sleep(2)
    workers[0].call("PUT", "/connectors/carry/config", config)
    workers[0].running("carry", 1)
    assert len(consume("topic-carry", count=3)) == 3
    produce("trace:4\tcarry\tlive", "trace:5\tcarry\tNULL")
    got = consume("topic-carry", count=5, more=("print.headers", "print.timestamp"))
    # time | headers | key | value
    rows = [(time_and_headers, *rest.split("|")) for time_and_headers, rest in got]
    source = consume("server", wait_ms=5000, more=("print.headers", "print.timestamp"))
    source = [(stamp, *rest.split("|")) for stamp, rest in source if rest.split("|")[1] == "carry"]
    assert [row[0] for row in rows] == [row[0] for row in source], (rows, source)
    assert [row[1:] for row in rows] == [(f"trace:{n}", "k", value) for n, value in enumerate(["first", "null", "", "live", "null"], 1)], rows
    workers[0].call("DELETE", "/connectors/carry")


def gap(workers, bridges):
    """A stored offset of another log: corespan.on.gap = fail stops the task and says why, continue goes on."""
    topic("topic-gap")
    config = settings([bridges[0].address], 1, corespan__start="earliest", corespan__subject__server__gap="topic-gap", corespan__on__gap="fail")
    client = Client(bridges[0].port)
    client.publish([("/server/gap", "1")])
    workers[0].call("PUT", "/connectors/gap/config", config)
    assert consume("topic-gap", count=1) == [("null", '"1"')]
    workers[0].call("PUT", "/connectors/gap/stop")
    until("STOPPED", lambda: workers[0].call("GET", "/connectors/gap/status")["connector"]["state"] == "STOPPED" and not workers[0].call("GET", "/connectors/gap/status")["tasks"])
    stored = workers[0].call("GET", "/connectors/gap/offsets")["offsets"]
    assert len(stored) == 1 and stored[0]["partition"] == {"subject": "/server/gap"}, stored
    stored[0]["offset"]["epoch"] = "of-another-log"
    until("offsets altered", lambda: workers[0].call("PATCH", "/connectors/gap/offsets", {"offsets": stored}))
    workers[0].call("PUT", "/connectors/gap/resume")
    trace = failed(workers[0], "gap")
    assert "gap: bridge" in trace and "/server/gap" in trace and "corespan.on.gap = continue" in trace, trace
    workers[0].call("PUT", "/connectors/gap/config", {**config, "corespan.on.gap": "continue"})
    # The failed task is still shown until the new configuration has reached it.
    until("RUNNING", lambda: [task["state"] for task in workers[0].call("GET", "/connectors/gap/status")["tasks"]] == ["RUNNING"])
    client.publish([("/server/gap", "2")])
    values = [value for _, value in consume("topic-gap")]
    assert values[-1] == '"2"', values
    workers[0].call("DELETE", "/connectors/gap")


def tls(workers, bridges):
    """A private authority is trusted by its PEM file or key store; who trusts another, or asks for another name, is told why there is no connection."""
    topic("topic-tls")
    folder = os.path.join(FOLDER, "tls")
    os.mkdir(folder)

    def run(*command):
        done = subprocess.run(command, cwd=folder, timeout=60, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    for name in ("ca", "stranger"):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=bridge", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "bridge.key", "-out", "bridge.csr")
    run("openssl", "x509", "-req", "-in", "bridge.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", "bridge.pem")
    run("keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", "-keystore", "ca.p12", "-storetype", "PKCS12", "-storepass", "secret")
    # Java believes no certificate in a PKCS12 file that is not marked as trusted, and openssl does not mark it.
    run("openssl", "pkcs12", "-export", "-nokeys", "-in", "ca.pem", "-out", "unmarked.p12", "-passout", "pass:secret")
    bridge = Bridge("tls", ["server"], listen=[f'tls.cert = "{folder}/bridge.pem"', f'tls.key = "{folder}/bridge.key"'])

    def connector(name, server=bridge.address, **more):
        more = {setting.replace("_", "."): value for setting, value in more.items()}
        config = settings([server], 1, corespan__start="earliest", corespan__subject__server__tls="topic-tls", corespan__key__server__tls=name, corespan__encryption="true", **more)
        workers[0].call("PUT", f"/connectors/{name}/config", config)

    def refused(name, server, why):
        """It runs, and says again and again why it has no connection."""
        workers[0].running(name, 1)
        until(f"{name}: {why}", lambda: len(said(workers, f"lost bridge {re.escape(server)}: .*{why}.* the next is tried")) >= 2)
        workers[0].running(name, 1)
        workers[0].call("DELETE", f"/connectors/{name}")

    try:
        Client(bridges[0].port).publish([("/server/tls", "1")])
        pem = {"corespan_ssl_truststore_type": "PEM"}
        connector("tls-pem", corespan_ssl_truststore_location=f"{folder}/ca.pem", **pem)
        assert consume("topic-tls", count=1) == [("tls-pem", '"1"')]
        connector("tls-store", corespan_ssl_truststore_location=f"{folder}/ca.p12", corespan_ssl_truststore_password="secret")
        assert consume("topic-tls", count=2) == [("tls-pem", '"1"'), ("tls-store", '"1"')]
        connector("tls-stranger", corespan_ssl_truststore_location=f"{folder}/stranger.pem", **pem)
        refused("tls-stranger", bridge.address, r"certificate is refused: nobody has signed it whom corespan\.ssl\.truststore\.location trusts")
        other = f"localhost:{bridge.port}"
        connector("tls-name", other, corespan_ssl_truststore_location=f"{folder}/ca.pem", **pem)
        refused("tls-name", other, "certificate is refused: No .*name matching localhost")
        for name, file, password, why in (("unmarked", "unmarked.p12", "secret", "no certificate"), ("password", "ca.p12", "wrong", "password"), ("absent", "absent.p12", "secret", "no such file")):
            connector(f"tls-{name}", corespan_ssl_truststore_location=f"{folder}/{file}", corespan_ssl_truststore_password=password)
            trace = failed(workers[0], f"tls-{name}")
            assert "corespan.ssl.truststore.location" in trace and f"{folder}/{file} cannot be used" in trace and why in trace.split("\n")[0], trace
            workers[0].call("DELETE", f"/connectors/tls-{name}")
        Client(bridges[0].port).publish([("/server/tls", "2")])
        got = consume("topic-tls", count=4)
        assert sorted(got) == sorted((key, value) for key in ("tls-pem", "tls-store") for value in ('"1"', '"2"')), got
        for name in ("tls-pem", "tls-store"):
            workers[0].call("DELETE", f"/connectors/{name}")
    finally:
        bridge.kill()


class Tokens(http.server.ThreadingHTTPServer):
    """Answers GET with a token that lives for so many seconds; with status 503 while it is `away`."""
    daemon_threads = True
    secret = b"a secret of the tests, of 32 bytes and more"

    def __init__(self, seconds, permissions):
        super().__init__(("127.0.0.1", 0), Tokens.Answer)
        self.seconds, self.permissions, self.is_away, self.given, self.refused = seconds, permissions, False, 0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/token"

    def make(self):
        def encoded(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")
        head, claims = {"alg": "HS256", "typ": "JWT"}, {"sub": "connect", "exp": int(time.time()) + self.seconds, "permissions": self.permissions}
        message = b".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
        return message + b"." + encoded(hmac.digest(self.secret, message, hashlib.sha256))

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.server.is_away:
                self.server.refused += 1
                self.send_error(503)
                return
            self.server.given += 1
            body = self.server.make() + b"\n"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass


def token(workers, bridges):
    """Tokens that live for seconds, from a URL: over several lives nothing is lost on one connection; while the URL gives none the connection ends, and comes back with what was missed."""
    topic("topic-token")
    life = 8
    tokens = Tokens(life, {"sub": ["/server/token"]})
    bridge = Bridge("token", ["server"], head=['entitlement.type = "jwt"', f'entitlement.jwt.hmac.secret = "{Tokens.secret.decode()}"', "entitlement.jwt.leeway = 0"])
    connected = f"connected to bridge {re.escape(bridge.address)}"
    config = settings([bridge.address], 1, corespan__start="earliest", corespan__subject__server__token="topic-token")
    sent = []

    def say():
        sent.append(f'"{len(sent)}"')
        Client(bridges[0].port).publish([("/server/token", sent[-1].strip('"'))])

    try:
        # A bad one that stands in the settings fails the task: nothing brings another.
        workers[0].call("PUT", "/connectors/token-once/config", {**config, "corespan.entitlement_token": "not.a.token"})
        trace = failed(workers[0], "token-once")
        assert "refuses the connection: 101" in trace, trace
        workers[0].call("DELETE", "/connectors/token-once")

        workers[0].call("PUT", "/connectors/token/config", {**config, "corespan.entitlement_token.url": tokens.url})
        workers[0].running("token", 1)
        until("connected", lambda: said(workers, connected))
        began = time.monotonic()
        # Three lives and a half: the first token, and those before the last, have ended.
        while time.monotonic() - began < 3.5 * life:
            say()
            time.sleep(0.5)
        got = [value for _, value in consume("topic-token", count=len(sent))]
        assert got == sent, (got, sent)
        assert len(said(workers, connected)) == 1 and tokens.given >= 4, (said(workers, connected), tokens.given)
        print(f"    {len(sent)} records over {3.5 * life:.0f} s and {tokens.given} tokens of {life} s, on one connection", flush=True)

        tokens.is_away = True
        until("the bridge ends the connection", lambda: said(workers, f"lost bridge {re.escape(bridge.address)}: .*3005"), 3 * life)
        until("the log says why it stays away", lambda: said(workers, f"lost bridge {re.escape(bridge.address)}: the token cannot be read.*corespan.entitlement_token.url.* 503"))
        say()
        workers[0].running("token", 1)
        tokens.is_away = False
        got = [value for _, value in consume("topic-token", wait_ms=30000, count=len(sent))]
        assert got == sent, (got, sent)
        workers[0].running("token", 1)
        assert not said(workers, "gap: bridge .*/server/token")
        workers[0].call("DELETE", "/connectors/token")
    finally:
        tokens.shutdown()
        tokens.server_close()
        bridge.kill()


def outage(workers, _):
    """All bridges are gone for a while: the task waits and comes back by itself. With recovery.on.start nothing is missing; without, the gap is told."""
    topic("topic-outage")
    pair = [Bridge("outage1", ["server"]), Bridge("outage2", ["server"])]
    config = settings([bridge.address for bridge in pair], 1, corespan__start="earliest", corespan__subject__server__outage="topic-outage")
    lost = "lost bridge (?:" + "|".join(re.escape(bridge.address) for bridge in pair) + ")"
    gaps = r"gap: bridge \S+ cannot serve all of /server/outage"
    sent = []

    def say(count):
        more = [str(len(sent) + n) for n in range(count)]
        produce(*(f"trace:{value}\toutage\t{value}" for value in more))
        sent.extend(more)

    def away(recovery, count):
        """Kills both, publishes, and starts them again when the task has tried for a while."""
        for bridge in pair:
            bridge.kill()
        before = len(said(workers, lost))
        say(count)
        # Each is tried four times, so the waits have begun to grow.
        until("both are tried again and again", lambda: len(said(workers, lost)) >= before + 8)
        workers[0].running("outage", 1)
        for bridge in pair:
            bridge.start(recovery)

    def values(count):
        return [value for _, value in consume("topic-outage", wait_ms=30000, count=count)]

    try:
        workers[0].call("PUT", "/connectors/outage/config", config)
        workers[0].running("outage", 1)
        say(100)
        assert values(100) == sent
        away(True, 100)
        assert values(200) == sent
        workers[0].running("outage", 1)
        assert not said(workers, gaps)
        say(1)
        assert values(201) == sent

        away(False, 10)
        until("the gap is logged", lambda: said(workers, gaps))
        workers[0].running("outage", 1)
        got = sent[:201]
        say(1)
        got.append(sent[-1])
        assert values(202) == got
        assert len(said(workers, gaps)) == 1, said(workers, gaps)
        workers[0].call("DELETE", "/connectors/outage")
    finally:
        for bridge in pair:
            bridge.kill()


def flood(bridges, connector, out, workers, victim, exactly, disturb):
    """MESSAGES over SUBJECTS subjects, with something that breaks in the middle."""
    config = settings([bridge.address for bridge in bridges], 4, corespan__start="earliest")
    for n in range(SUBJECTS):
        config[f"corespan.subject.flood.{connector}-{n}"] = out
        config[f"corespan.key.flood.{connector}-{n}"] = f"{n}"
    workers[0].call("PUT", f"/connectors/{connector}/config", config)
    workers[0].running(connector, 4)
    client = Client(bridges[0].port)
    records = [(f"/flood/{connector}-{i % SUBJECTS}", str(i)) for i in range(MESSAGES)]
    sent, failure = 0, None

    def publish():
        nonlocal sent, failure
        try:
            for at in range(0, MESSAGES, 500):
                client.publish(records[at:at + 500])
                sent = at + 500
        except BaseException as error:
            failure = error
    publisher = threading.Thread(target=publish, daemon=True)
    publisher.start()
    until("a third is published", lambda: failure or sent >= MESSAGES // 3, 120, 0.005)
    before = sent
    disturb()
    # What is killed is killed while messages flow, or this shows nothing.
    assert before < MESSAGES, "all was published before anything broke"
    print(f"    disturbed at {before}, done at {sent} of {MESSAGES} messages", flush=True)
    publisher.join(120)
    assert failure is None and not publisher.is_alive(), failure
    survivor = next(worker for worker in workers if worker.process.process.poll() is None)
    survivor.running(connector, 4, 90)
    got = consume(out, wait_ms=20000, committed=exactly)
    counts = collections.Counter(got)
    wanted = {(str(i % SUBJECTS), f'"{i}"') for i in range(MESSAGES)}
    missing = wanted - set(counts)
    assert not missing, f"{len(missing)} of {MESSAGES} are missing, such as {sorted(missing)[:5]}"
    doubled = sum(counts.values()) - len(counts)
    assert not exactly or doubled == 0, f"{doubled} are doubled"
    assert set(counts) == wanted
    last = {}
    for key, value in got:
        n = int(value.strip('"'))
        assert exactly is False or last.get(key, -1) < n, f"order of {key}: {last[key]} before {n}"
        last[key] = n
    print(f"    {len(got)} records, {doubled} doubled", flush=True)


def kill(workers, bridges):
    topic("out-kill")
    flood(bridges[:1], "kill", "out-kill", workers, workers[1], False, workers[1].kill)


def exactly(_, bridges):
    topic("out-exactly")
    workers = [Worker("exactly1", "exactly", True)]
    workers[0].ready()
    workers.append(Worker("exactly2", "exactly", True))
    workers[1].ready()
    try:
        flood(bridges[:1], "exactly", "out-exactly", workers, workers[1], True, workers[1].kill)
    finally:
        for worker in workers:
            worker.kill()


def nodes(workers, bridges):
    topic("out-nodes")
    alive = [worker for worker in workers if worker.process.process.poll() is None]

    def disturb():
        bridges[1].kill()
        time.sleep(3)
        bridges[1].start()
    flood(bridges, "nodes", "out-nodes", alive, None, False, disturb)


def main():
    parts = sys.argv[1:] or PARTS
    for path in (BIN, PLUGIN, LIBS):
        assert os.path.exists(path), f"{path} is missing; see the top of this file"
    shutil.copytree(PLUGIN, os.path.join(FOLDER, "plugins", "corespan-connect"))
    kafka_up()
    for name, partitions in (("server", 2), ("flood", 2), ("topic1", 1), ("topic2", 1)):
        topic(name, partitions)
    bridges = [Bridge("bridge1", ["server", "flood"]), Bridge("bridge2", ["server", "flood"])]
    workers = []
    if set(parts) - {"exactly"}:
        workers = [Worker("worker1", "connect")]
        workers[0].ready()
        workers.append(Worker("worker2", "connect"))
        workers[1].ready()
    for part in PARTS:
        if part in parts:
            began = time.monotonic()
            globals()[part](workers, bridges)
            print(f"{part}: ok ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    try:
        main()
        shutil.rmtree(FOLDER, ignore_errors=True) if not os.environ.get("CORESPAN_TEST_KEEP") else None
    except BaseException:
        print(f"logs: {FOLDER}", file=sys.stderr)
        raise
    finally:
        for process in Process.all:
            process.process.kill()
        for process in Process.all:
            process.process.wait()
