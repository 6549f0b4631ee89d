"""A corespan node, Kafka's console producer and a network that can be cut, for the tests of the Python SDK."""

import asyncio
import atexit
import contextlib
import faulthandler
import functools
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest
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


TEST_SECONDS = 60


def within_limit(test):
    @functools.wraps(test)
    async def limited(self):
        try:
            await asyncio.wait_for(test(self), TEST_SECONDS)
        except asyncio.TimeoutError:
            raise AssertionError(f"did not end within {TEST_SECONDS} s") from None

    return limited


def end_all_unless_done(seconds):
    """For code that never gives way to a limit: prints where every thread is, and ends the process."""
    faulthandler.dump_traceback_later(seconds, exit=True)


class LimitedTest(unittest.IsolatedAsyncioTestCase):
    """Every test fails by its name when it takes too long, and the next one runs."""

    def __init_subclass__(cls):
        super().__init_subclass__()
        for name in dir(cls):
            if name.startswith("test_"):
                setattr(cls, name, within_limit(getattr(cls, name)))

    def setUp(self):
        end_all_unless_done(2 * TEST_SECONDS)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)


children = set()


@atexit.register
def kill_children():
    for child in children:
        child.kill()


def start(command, **options):
    """A process that ends with this one however that is: at its exit, or, if it is killed with -9, by the kernel (setpriv asks for that)."""
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], **options)
    children.add(child)
    return child


def create_topic(name, partitions):
    command = [needed("CORESPAN_TEST_KAFKA_DEV"), "kafka", "TopicCommand", "--bootstrap-server", needed("CORESPAN_TEST_KAFKA")]
    command += ["--create", "--topic", name, "--partitions", str(partitions)]
    with start(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as tool:
        try:
            printed, _ = tool.communicate(timeout=50)
        finally:
            tool.kill()
    if tool.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {tool.returncode}: {printed}")


# 20000 to 29999 belong to the SDK tests (tests/README.md says who has the others), below those that the kernel gives to clients, so that no connection
# of anybody takes one between its choice and its use. Test programs that run beside each other begin at different places.
ports = (20_000 + (os.getpid() * 97 + tried) % 10_000 for tried in range(10_000))


def free_port():
    for port in ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no port from 20000 to 29999 is free")


class ConsoleProducer:
    """Kafka's console producer (Java, murmur2), kept running: `send` returns at once, records leave in order."""

    def __init__(self, topic):
        command = [needed("CORESPAN_TEST_KAFKA_DEV"), "kafka", "ConsoleProducer", "--bootstrap-server", needed("CORESPAN_TEST_KAFKA")]
        command += ["--topic", topic, "--timeout", "0"]
        for option in ("parse.key=true", "parse.headers=true", f"null.marker={NULL}"):
            command += ["--property", option]
        self.errors = tempfile.TemporaryFile(mode="w+")
        # It runs as long as the tests, which is longer than other tools may.
        environment = {**os.environ, "CORESPAN_KAFKA_TOOL_SECONDS": ""}
        self.process = start(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.errors, text=True, env=environment
        )

    def send(self, key, value, headers=None):
        """A key or a value of None is Kafka's null."""
        pairs = ",".join(f"{name}:{text}" for name, text in (headers or {}).items()) or NULL
        fields = [pairs, NULL if key is None else key, NULL if value is None else value]
        self.process.stdin.write("\t".join(fields) + "\n")
        self.process.stdin.flush()

    def close(self):
        """Ends when Kafka has every record."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            code = self.process.wait(timeout=30)
        finally:
            self.process.kill()
        self.errors.seek(0)
        errors = self.errors.read()
        self.errors.close()
        if code != 0 or "ERROR" in errors:
            raise RuntimeError(f"console producer ended with {code}: {errors}")


class Node:
    """`corespan serve` as a process of its own, ready when the constructor returns."""

    def __init__(self, topics):
        self.port, self.admin_port = free_port(), free_port()
        self.folder = tempfile.TemporaryDirectory(prefix="corespan-")
        config = Path(self.folder.name, "corespan.toml")
        bootstrap = needed("CORESPAN_TEST_KAFKA")
        config.write_text(
            f"""drain.seconds = 1

[publish]
pattern = ".*"

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
            command = [needed("CORESPAN_TEST_BIN"), "serve", "--config", str(config)]
            self.process = start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise

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

    def metrics(self, accept):
        """Content type and text of /metrics, for a scraper that accepts this."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

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
        self._pairs = set()

    async def start(self):
        self._server = await asyncio.start_server(self._pair, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.websocket = f"ws://127.0.0.1:{port}/connection/websocket"
        return self

    async def _pair(self, near_reader, near_writer):
        self.accepted += 1
        self._pairs.add(asyncio.current_task())
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

    async def close(self):
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pairs, return_exceptions=True)
