"""A corespan node, Kafka's console producer and a network that can be cut, for the tests of the Python SDK."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

NULL = "__null__"


def needed(name):
    """What ./dev test hands to the tests. A test that lacks it fails and says which command gives it."""
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set: run the SDK tests with ./dev test python")
    return value


def create_topic(name, partitions):
    command = [needed("CORESPAN_TEST_KAFKA_DEV"), "kafka", "TopicCommand", "--bootstrap-server", needed("CORESPAN_TEST_KAFKA")]
    subprocess.run(
        command + ["--create", "--topic", name, "--partitions", str(partitions)], check=True, capture_output=True, timeout=60
    )


def free_ports(count):
    """Different ones: all are held until the last is found."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


class ConsoleProducer:
    """Kafka's console producer (Java, murmur2), kept running: `send` returns at once, records leave in order."""

    def __init__(self, topic):
        command = [needed("CORESPAN_TEST_KAFKA_DEV"), "kafka", "ConsoleProducer", "--bootstrap-server", needed("CORESPAN_TEST_KAFKA")]
        command += ["--topic", topic, "--timeout", "0"]
        for option in ("parse.key=true", "parse.headers=true", f"null.marker={NULL}"):
            command += ["--property", option]
        self.errors = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.errors, text=True)

    def send(self, key, value, headers=None):
        """A key or a value of None is Kafka's null."""
        pairs = ",".join(f"{name}:{text}" for name, text in (headers or {}).items()) or NULL
        fields = [pairs, NULL if key is None else key, NULL if value is None else value]
        self.process.stdin.write("\t".join(fields) + "\n")
        self.process.stdin.flush()

    def close(self):
        """Ends when Kafka has every record."""
        self.process.stdin.close()
        code = self.process.wait(timeout=60)
        self.errors.seek(0)
        errors = self.errors.read()
        self.errors.close()
        if code != 0 or "ERROR" in errors:
            raise RuntimeError(f"console producer ended with {code}: {errors}")


class Node:
    """`corespan serve` as a process of its own, ready when the constructor returns."""

    def __init__(self, topics):
        self.port, self.admin_port = free_ports(2)
        self.folder = tempfile.TemporaryDirectory(prefix="corespan-")
        config = Path(self.folder.name, "corespan.toml")
        bootstrap = needed("CORESPAN_TEST_KAFKA")
        config.write_text(
            f"""drain.seconds = 1

[listen]
address = "127.0.0.1:{self.port}"
admin = "127.0.0.1:{self.admin_port}"

[cores]
shards = 2

[kafka.consumer]
"bootstrap.servers" = "{bootstrap}"
topics = {json.dumps(topics)}

[kafka.producer]
"bootstrap.servers" = "{bootstrap}"
"""
        )
        self.log = Path(self.folder.name, "log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [needed("CORESPAN_TEST_BIN"), "serve", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._await_ready()

    def _await_ready(self):
        deadline, last = time.monotonic() + 30, "no answer"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"corespan ended with {self.process.returncode}:\n{self.log.read_text()}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/ready", timeout=2):
                    return
            except urllib.error.HTTPError as error:
                last = f"{error.code} {error.read().decode()}"
            except OSError as error:
                last = str(error)
            time.sleep(0.05)
        raise RuntimeError(f"corespan is not ready after 30 s ({last}):\n{self.log.read_text()}")

    @property
    def websocket(self):
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.folder.cleanup()


class Proxy:
    """A TCP proxy between a client and a node: the network that a test can cut."""

    def __init__(self, target_port):
        self.target_port = target_port
        self.accepted = 0
        self._writers = set()

    async def start(self):
        self._server = await asyncio.start_server(self._pair, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.websocket = f"ws://127.0.0.1:{port}/connection/websocket"
        return self

    async def _pair(self, near_reader, near_writer):
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        pair = (near_writer, far_writer)
        self._writers.update(pair)
        await asyncio.gather(self._pump(near_reader, far_writer), self._pump(far_reader, near_writer))
        self._writers.difference_update(pair)

    @staticmethod
    async def _pump(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()

    def cut(self):
        """Breaks every connection, with a reset and without a WebSocket close: what a lost network looks like."""
        for writer in list(self._writers):
            writer.transport.abort()

    def close(self):
        self._server.close()
        self.cut()
