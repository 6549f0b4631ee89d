#!/usr/bin/env python3
"""What TLS costs a node: CPU per delivery against the plain port and against HAProxy in front of the plain port, handshakes, memory at rest.

  ./dev kafka up
  python3 benches/tls.py --binary target/release/corespan --kafka 127.0.0.1:9092

One node, one shard on one CPU, this tool on another. Rounds of plain, TLS and HAProxy follow each other; CPU is what the kernel counts for the node's
process, in ticks of 10 ms, and for HAProxy's: rounds of a few seconds are right to some 5 %. Figures are medians of the rounds. HAProxy is Debian's (apt-get install haproxy); without it its rows are missing, and said so.
"""

import argparse
import base64
import os
import selectors
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
LIMIT = 60
# What is to be ended, whatever happens.
started = []


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024


def certificates(folder, kind):
    """An authority, and a certificate of it for localhost."""
    path = lambda name: os.path.join(folder, f"{kind}-{name}")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ecdsa" else ["-newkey", "rsa:2048"]
    run("openssl", "req", "-x509", *key, "-nodes", "-days", "2", "-subj", "/CN=authority", "-keyout", path("ca.key"), "-out", path("ca.pem"))
    run("openssl", "req", *key, "-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", path("key.pem"), "-out", path("csr.pem"))
    run("openssl", "x509", "-req", "-in", path("csr.pem"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", path("cert.pem"))
    return path("ca.pem"), path("cert.pem"), path("key.pem")


def frame(text):
    payload = text.encode()
    head = bytes([0x81, 0x80 | len(payload)]) if len(payload) < 126 else bytes([0x81, 0xFE]) + struct.pack(">H", len(payload))
    return head + bytes(4) + payload


class Client:
    """A subscriber, or a publisher."""

    def __init__(self, port, context, subject=None):
        sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(sock, server_hostname="localhost") if context else sock
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.until(b"\r\n\r\n")
        self.socket.sendall(frame('{"id":1,"connect":{}}'))
        self.until(b'"id":1,')
        if subject:
            self.socket.sendall(frame('{"id":2,"subscribe":{"channel":"%s"}}' % subject))
            said = self.until(b'"id":2,')
            if b'"error"' in said:
                sys.exit(f"refused: {said}")
        self.count = 0

    def until(self, mark):
        said = b""
        while mark not in said:
            more = self.socket.recv(65536)
            if not more:
                sys.exit(f"closed after {said}")
            said += more
        return said

    def take(self):
        """Reads what there is; how many records it holds."""
        records = 0
        while True:
            try:
                chunk = self.socket.recv(65536)
            except (ssl.SSLWantReadError, BlockingIOError):
                return records
            if not chunk:
                sys.exit("a client was closed")
            records += chunk.count(b'"mark":')
            if not isinstance(self.socket, ssl.SSLSocket):
                return records


class Node:
    def __init__(self, options, folder, pair, topic):
        self.plain, self.tls, admin = free_port(), free_port(), free_port()
        config = os.path.join(folder, f"node-{self.plain}.toml")
        with open(config, "w") as file:
            file.write(
                f"""drain.seconds = 0
publish.pattern = ".*"
log.level = "warn"
client.ping.interval = "1h"
[[listen]]
address = "127.0.0.1:{self.plain}"
admin = "127.0.0.1:{admin}"
handshakes.max = 100000
[[listen]]
address = "127.0.0.1:{self.tls}"
tls.cert = "{pair[1]}"
tls.key = "{pair[2]}"
[cores]
shards = [{options.cpu}]
[kafka]
"bootstrap.servers" = "{options.kafka}"
[kafka.consumer]
topics = ["{topic}"]
"""
            )
        started.append(self)
        self.process = subprocess.Popen([options.binary, "serve", "--config", config], stdout=subprocess.DEVNULL)
        deadline = time.time() + LIMIT
        while True:
            try:
                with socket.create_connection(("127.0.0.1", admin), timeout=2) as ask:
                    ask.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
                    if b" 200 " in ask.recv(4096)[:20]:
                        return
            except OSError:
                pass
            if time.time() > deadline or self.process.poll() is not None:
                sys.exit("the node is not ready")
            time.sleep(0.05)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=LIMIT)


class Proxy:
    """HAProxy in front of the plain port, one thread on the node's CPU."""

    def __init__(self, options, folder, pair, behind):
        self.port = free_port()
        bundle = os.path.join(folder, "bundle.pem")
        with open(bundle, "w") as out:
            out.write(open(pair[1]).read() + open(pair[2]).read())
        config = os.path.join(folder, "haproxy.cfg")
        with open(config, "w") as file:
            file.write(
                f"""global
    maxconn 4000
    nbthread 1
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
frontend encrypted
    bind 127.0.0.1:{self.port} ssl crt {bundle}
    default_backend node
backend node
    server node 127.0.0.1:{behind}
"""
            )
        started.append(self)
        self.process = subprocess.Popen(["taskset", "-c", str(options.cpu), options.haproxy, "-db", "-f", config], stdout=subprocess.DEVNULL)
        deadline = time.time() + LIMIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
                return
            except OSError:
                if time.time() > deadline or self.process.poll() is not None:
                    sys.exit(f"HAProxy does not start; see: {options.haproxy} -c -f {config}")
                time.sleep(0.05)

    def end(self):
        self.process.kill()
        self.process.wait(timeout=LIMIT)


def deliver(options, port, context, subject, publisher, pids):
    """CPU of the processes per delivery, in microseconds, and how many deliveries there were."""
    selector = selectors.DefaultSelector()
    clients = [Client(port, context, subject) for _ in range(options.clients)]
    for client in clients:
        client.socket.setblocking(False)
        selector.register(client.socket, selectors.EVENT_READ, client)
    data = "x" * options.bytes
    measured = None
    for warm in (True, False):
        records = int(options.rate * (1 if warm else options.seconds))
        began, before, seen = time.time(), [cpu_seconds(pid) for pid in pids], 0
        sent = 0
        while seen < records * len(clients):
            if time.time() - began > LIMIT:
                sys.exit(f"{seen} of {records * len(clients)} deliveries in {LIMIT} s")
            while sent < records and time.time() >= began + sent / options.rate:
                publisher.socket.sendall(frame('{"publish":{"channel":"%s","data":{"mark":%d,"pad":"%s"}}}' % (subject, sent, data)))
                sent += 1
            for key, _ in selector.select(timeout=0.002):
                seen += key.data.take()
        after = [cpu_seconds(pid) for pid in pids]
        measured = [(end - start) / seen * 1e6 for start, end in zip(before, after)]
    for client in clients:
        client.socket.close()
    time.sleep(0.5)
    return measured


def handshakes(port, pid, version, seconds, resume):
    """Handshakes for each second of the node's CPU."""
    before = cpu_seconds(pid)
    command = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-time", str(seconds), version, "-reuse" if resume else "-new"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT).stdout
    count = int(next(line for line in said.splitlines() if "connections in" in line and "real" in line).split()[0])
    return count / max(cpu_seconds(pid) - before, 0.01)


def idle(options, port, context, subject, pid):
    """Bytes of the node for each idle subscribed connection."""
    first = [Client(port, context, subject) for _ in range(200)]
    before = resident(pid)
    clients = [Client(port, context, subject) for _ in range(options.idle)]
    time.sleep(2)
    grown = (resident(pid) - before) / len(clients)
    for client in first + clients:
        client.socket.close()
    time.sleep(1)
    return grown


def fresh(options, folder, pair):
    """A node that is not tied to the tool's CPU."""
    os.sched_setaffinity(0, set(range(os.cpu_count())))
    try:
        return Node(options, folder, pair, options.topic)
    finally:
        os.sched_setaffinity(0, {options.tool_cpu})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="corespan, a release build")
    parser.add_argument("--kafka", required=True, help="HOST:PORT of a Kafka that makes topics by itself, or has the topic tls-bench")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rate", type=float, default=60, help="records a second, each to every client")
    parser.add_argument("--bytes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--cpu", type=int, default=1)
    parser.add_argument("--tool-cpu", type=int, default=0)
    parser.add_argument("--haproxy", default=shutil.which("haproxy") or ("/usr/sbin/haproxy" if os.path.exists("/usr/sbin/haproxy") else ""))
    parser.add_argument("--topic", default="tls-bench")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.tool_cpu})
    subject = f"/{options.topic}/all"
    with tempfile.TemporaryDirectory() as folder:
        pair = certificates(folder, "ecdsa")
        rsa = certificates(folder, "rsa")
        context = ssl.create_default_context(cafile=pair[0])
        node = fresh(options, folder, pair)
        proxy = Proxy(options, folder, pair, node.plain) if options.haproxy else None
        publisher = Client(node.plain, None)
        pid = node.process.pid
        rows = {"plain": [], "TLS": [], "HAProxy": []}
        for number in range(options.rounds):
            rows["plain"].append(deliver(options, node.plain, None, subject, publisher, [pid])[0])
            rows["TLS"].append(deliver(options, node.tls, context, subject, publisher, [pid])[0])
            if proxy:
                rows["HAProxy"].append(sum(deliver(options, proxy.port, context, subject, publisher, [pid, proxy.process.pid])))
            print(f"round {number + 1}: " + ", ".join(f"{name} {row[-1]:.1f} us" for name, row in rows.items() if row), flush=True)
        ratio = lambda name: statistics.median(one / plain for one, plain in zip(rows[name], rows["plain"]))
        print(f"\nCPU per delivery, medians: plain {statistics.median(rows['plain']):.1f} us; TLS {statistics.median(rows['TLS']):.1f} us, {ratio('TLS'):.2f} of plain")
        if proxy:
            against = statistics.median(one / other for one, other in zip(rows["TLS"], rows["HAProxy"]))
            print(f"HAProxy in front of the plain port, both processes: {statistics.median(rows['HAProxy']):.1f} us, {ratio('HAProxy'):.2f} of plain; TLS is {against:.2f} of that")
        else:
            print("no HAProxy here: apt-get install haproxy")
        if proxy:
            proxy.end()
        # A node of its own for each: what one kind of connection gives back the other would take.
        grown = {}
        for kind in ("plain", "TLS"):
            node.end()
            node = fresh(options, folder, pair)
            port, trusted = (node.plain, None) if kind == "plain" else (node.tls, context)
            grown[kind] = idle(options, port, trusted, subject, node.process.pid)
        print(f"idle subscribed connection: plain {grown['plain']:.0f} B, TLS {grown['TLS']:.0f} B")
        for name, other in (("ECDSA P-256", node), ("RSA 2048", None)):
            if other is None:
                node.end()
                node = other = fresh(options, folder, rsa)
            full = [handshakes(other.tls, other.process.pid, version, 3, False) for version in ("-tls1_3", "-tls1_2")]
            resumed = handshakes(other.tls, other.process.pid, "-tls1_2", 3, True)
            print(f"handshakes for each second of the node's CPU, {name}: TLS 1.3 {full[0]:.0f}, TLS 1.2 {full[1]:.0f}, resumed (1.2) {resumed:.0f}")
        node.end()


try:
    main()
finally:
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
