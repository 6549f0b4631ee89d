"""The packages in a Debian 12 that systemd runs: see ./dev test package. Each class has a machine of its own, and its tests build on each other."""

import base64
import ctypes
import glob
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

ROOT = os.environ["CORESPAN_TEST_ROOT"]
NEW = os.environ["CORESPAN_TEST_PACKAGES"]
OLD = os.environ["CORESPAN_TEST_PACKAGES_OLD"]
BINARY = os.environ["CORESPAN_TEST_BIN"]
README = Path(__file__).parents[2].joinpath("README.md").read_text()
CONFIG = "/etc/corespan/corespan.toml"
CONFIGURED = """drain.seconds = 1
[listen]
address = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
[cores]
shards = 1
[kafka.consumer]
bootstrap.servers = "{kafka}"
topics = ["vehicles"]
[kafka.producer]
bootstrap.servers = "{kafka}"
"""

# What the binary does not do yet; each goes when it does.
OFFERS = Path(BINARY).read_bytes()
NOTIFIES = b"NOTIFY_SOCKET" in OFFERS
# Programs that `./dev package` built itself have OpenSSL in them.
STATIC = b"libssl.so" not in OFFERS
HAS_MAN_PAGES = bool(subprocess.run(["tar", "-tJf", *glob.glob(f"{NEW}/*x86_64.tar.xz")], capture_output=True, timeout=60).stdout.count(b"/man/corespan"))


def one(pattern):
    found = glob.glob(pattern)
    assert len(found) == 1, f"{pattern}: {found}"
    return found[0]


def free_port():
    for port in range(20000 + os.getpid() % 9000, 30000):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def until(what, seconds=20):
    """Until `what` returns something true, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what.__name__}")
        time.sleep(0.1)


class Machine:
    """A Debian 12 booted by systemd-nspawn. What changes in it is gone with it. It shares this machine's network unless an option says otherwise."""

    def __init__(self, *more):
        # Limits that this machine has set cannot be raised in there without CAP_SYS_RESOURCE: the unit's then count for less.
        soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        options = ["--volatile=overlay", f"--rlimit=RLIMIT_MEMLOCK={'infinity' if hard < 0 else hard}"]
        options += [f"--bind-ro={NEW}:/packages/new", f"--bind-ro={OLD}:/packages/old"]
        options += ["--boot", "--register=no", "--keep-unit", "--console=read-only", "--link-journal=no", *more]
        self.log = open(f"{NEW}/../machine.log", "ab")
        self.nspawn = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL",
                # The machine ends when systemd-nspawn does, which is the first process here, however that ends.
                "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
                "systemd-nspawn", "--quiet", f"--directory={ROOT}", *options,
            ],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        try:
            until(self.init, 60)
            until(lambda: self.run("systemctl is-system-running", check=False).strip() in ("running", "degraded"), 60)
        except BaseException:
            self.end()
            raise

    def init(self):
        if self.nspawn.poll() is not None:
            raise RuntimeError(f"systemd-nspawn ended with {self.nspawn.returncode}")
        children = [str(self.nspawn.pid)]
        while children:
            for line in subprocess.run(["ps", "-o", "pid=,args=", "--ppid", children[0]], capture_output=True, text=True).stdout.splitlines():
                pid, command = line.split(None, 1)
                if command.startswith("/usr/lib/systemd/systemd"):
                    self.pid = pid
                    return pid
                children.append(pid)
            children.pop(0)
        return None

    def run(self, script, check=True, seconds=60):
        """What a shell in the machine prints."""
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LANG=C.UTF-8", "HOME=/root"]
        command = ["timeout", "--kill-after=5", str(seconds), "nsenter", "-t", self.pid, "-a", *environment, "sh", "-ec", script]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if check and done.returncode != 0:
            raise AssertionError(f"{script}\nended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def write(self, path, text):
        self.run(f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path}")

    def show(self, what):
        return self.run(f"systemctl show corespan -P {what}").strip()

    def is_active(self):
        return self.run("systemctl is-active corespan", check=False).strip() == "active"

    def configure(self, config):
        # No `cp`, no new file: owner and mode stay.
        self.write(CONFIG, config)
        if not NOTIFIES:
            # Until the binary says READY=1.
            self.run("mkdir -p /run/systemd/system/corespan.service.d")
            self.write("/run/systemd/system/corespan.service.d/test.conf", "[Service]\nType=exec\nWatchdogSec=0\n")
            self.run("systemctl daemon-reload")

    def end(self):
        self.nspawn.kill()
        self.nspawn.wait()
        self.log.close()


class EmbeddedKafka:
    """`corespan demo`, whose embedded Kafka other nodes can read too: topic vehicles, with a live feed."""

    def __init__(self):
        command = ["setpriv", "--pdeathsig", "KILL", BINARY, "demo", "--shards", "1", "--port", "0", "--admin-port", "0"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.address = until(self.find)

    def find(self):
        # The one listener whose backlog is 5: librdkafka's.
        listing = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, timeout=10).stdout
        for line in listing.splitlines():
            fields = line.split()
            if f"pid={self.process.pid}," in line and fields[2] == "5":
                return fields[3]
        return None

    def end(self):
        self.process.kill()
        self.process.wait()


def get(port, path):
    """Status and text."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return None, str(error)


def enter_network(path):
    """This thread, and what it starts from now on, is in the network that the file of /proc names. Gives the one before."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path) as network:
        if libc.setns(network.fileno(), 0x40000000) != 0:  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "setns")
    return before


def leave_network(before):
    enter_network(f"/proc/self/fd/{before}")
    os.close(before)


def memory(text):
    """A size as `corespan check` writes it, in bytes."""
    number, unit = re.fullmatch(r"(\d+)(|B|KiB|MiB|GiB)", text).groups()
    return int(number) << {"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[unit]


class Client:
    """Just enough of a WebSocket client."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        status = self.file.readline()
        assert b" 101 " in status, status
        while self.file.readline() != b"\r\n":
            pass
        self.replies = []

    def send(self, command):
        text = json.dumps(command).encode()
        mask = os.urandom(4)
        assert len(text) < 126
        self.socket.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))

    def reply(self):
        while not self.replies:
            first, length = self.file.read(2)
            if length == 126:
                (length,) = struct.unpack(">H", self.file.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.file.read(8))
            text = self.file.read(length)
            assert first & 15 == 1, (first, text)
            self.replies = [json.loads(line) for line in text.decode().splitlines() if line.strip()]
        return self.replies.pop(0)

    def close(self):
        self.file.close()
        self.socket.close()


def shard_threads(pid):
    """The threads of the first shard of a process in the machine, as this side numbers them."""
    for status in glob.glob("/proc/[0-9]*/status"):
        try:
            text = Path(status).read_text()
        except OSError:
            continue
        inner = re.search(r"^NSpid:.*\t(\d+)$", text, re.M)
        if text.startswith("Name:\tcorespan\n") and inner and inner[1] == pid and len(re.search(r"^NSpid:(.*)$", text, re.M)[1].split()) > 1:
            tasks = Path(status).parent / "task"
            return [int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == "shard-0"]
    raise AssertionError(f"no process is {pid} in the machine")


def stop_thread(thread):
    """One thread stands still, the others of its process go on: PTRACE_SEIZE and PTRACE_INTERRUPT. It ends with its process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for request in (0x4206, 0x4207):
        if libc.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")


def bury(thread):
    """Whoever traces a thread has to take note of its end, or its process stays."""
    try:
        os.waitpid(thread, os.WNOHANG | 0x40000000)  # __WALL
    except ChildProcessError:
        pass


class MachineTest(unittest.TestCase):
    maxDiff = None
    own_network = False
    options = []

    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(signal.alarm, 0)
        signal.alarm(300)
        cls.machine = Machine(*cls.options)
        cls.addClassCleanup(cls.machine.end)
        if cls.own_network:
            cls.addClassCleanup(leave_network, enter_network(f"/proc/{cls.machine.pid}/ns/net"))
        cls.kafka = EmbeddedKafka()
        cls.addClassCleanup(cls.kafka.end)
        cls.port, cls.admin = free_port(), free_port() + 1
        cls.config = CONFIGURED.format(port=cls.port, admin=cls.admin, kafka=cls.kafka.address)

    def await_ready(self):
        def ready():
            return get(self.admin, "/ready")[0] == 200

        try:
            until(ready)
        except AssertionError:
            raise AssertionError(f"{get(self.admin, '/ready')}\n{self.machine.run('journalctl -u corespan -n 30 --no-pager')}")

    def assert_a_client_gets_records(self):
        client = Client(self.port)
        try:
            client.send({"id": 1, "connect": {}})
            self.assertIn("connect", client.reply())
            client.send({"id": 2, "subscribe": {"channel": "/vehicles/1"}})
            self.assertIn("subscribe", client.reply())
            deadline = time.monotonic() + 20
            while "pub" not in client.reply().get("push", {}):
                self.assertLess(time.monotonic(), deadline)
        finally:
            client.close()

    def entries(self, *matches):
        """Entries of the service's journal since it was started last, as `journalctl -o json` gives them."""
        invocation = self.machine.show("InvocationID")
        lines = self.machine.run(f"journalctl -o json --no-pager _SYSTEMD_INVOCATION_ID={invocation} {' '.join(matches)}").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def main_pid(self):
        pid = self.machine.show("MainPID")
        return pid if pid != "0" else None

    def assert_as_the_unit_says(self):
        """The node runs as its user, without rights, in the sandbox."""
        status = self.machine.run(f"cat /proc/{self.main_pid()}/status")
        self.assertRegex(status, r"CapEff:\t0+\n")
        self.assertRegex(status, r"NoNewPrivs:\t1\n")
        self.assertRegex(status, r"Seccomp:\t2\n")
        self.assertEqual(self.machine.run(f"ps -o user= -p {self.main_pid()}").strip(), "corespan")

    def assert_restarts_after_a_kill(self):
        pid = self.main_pid()
        self.machine.run(f"kill -9 {pid}")
        until(lambda: self.main_pid() not in (None, pid))
        self.await_ready()
        self.assertGreaterEqual(int(self.machine.show("NRestarts")), 1)

    def assert_restarts_when_a_shard_stands_still(self):
        drop_in = "/run/systemd/system/corespan.service.d/watchdog.conf"
        self.machine.run(f"mkdir -p {os.path.dirname(drop_in)}")
        self.machine.write(drop_in, "[Service]\nWatchdogSec=2s\n")
        self.machine.run("systemctl daemon-reload; systemctl restart corespan")
        self.await_ready()
        pid = self.main_pid()
        # It is fed: longer than the limit, and the same process.
        fed = time.monotonic() + 5
        until(lambda: time.monotonic() > fed)
        self.assertEqual(self.main_pid(), pid)
        threads = shard_threads(pid)
        for thread in threads:
            stop_thread(thread)

        def restarted():
            for thread in threads:
                bury(thread)
            return self.main_pid() not in (None, pid)

        until(restarted, 40)
        self.await_ready()
        self.assertIn("watchdog", self.machine.run("journalctl -u corespan -o cat --no-pager").lower())
        self.machine.run(f"rm {drop_in}; systemctl daemon-reload; systemctl restart corespan")
        self.await_ready()

    def stat(self, path):
        return self.machine.run(f"stat -c '%a %U %G' {path}").strip()


class Deb(MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.new = "/packages/new/" + os.path.basename(one(f"{NEW}/*.deb"))
        cls.old = "/packages/old/" + os.path.basename(one(f"{OLD}/*.deb"))

    def install(self, deb, *options):
        return self.machine.run(f"apt-get install -y -q {' '.join(options)} {deb}", seconds=120)

    def test_1_install_enables_and_does_not_start_the_sample(self):
        self.assertIn("enabled but not started", self.install(self.old))
        self.assertEqual(self.machine.run("systemctl is-enabled corespan").strip(), "enabled")
        self.assertFalse(self.machine.is_active())
        self.assertEqual(self.stat(CONFIG), "640 root corespan")
        self.assertEqual(self.stat("/etc/corespan"), "750 root corespan")
        self.assertEqual(self.stat("/etc/default/corespan"), "644 root root")
        self.assertEqual(self.stat("/usr/bin/corespan"), "755 root root")
        self.assertIn("CORESPAN_KAFKA_EXTRA_OPTS", self.machine.run("cat /etc/default/corespan"))
        self.machine.run("corespan --version; corespan-bench --help; test -s /usr/share/doc/corespan/licences.gz")

    def test_2_start_and_a_client_gets_records(self):
        self.machine.configure(self.config)
        self.machine.run("systemctl start corespan")
        self.await_ready()
        self.assert_a_client_gets_records()
        self.assert_as_the_unit_says()
        if NOTIFIES:
            self.assertIn("ready", self.machine.show("StatusText"))

    def test_3_the_environment_replaces_the_file(self):
        self.machine.run("sed -i 's/.*CORESPAN_KAFKA_EXTRA_OPTS=.*/CORESPAN_KAFKA_EXTRA_OPTS=\"-Dtopics=nosuchtopic\"/' /etc/default/corespan")
        self.machine.run("systemctl restart corespan", check=False)
        until(lambda: "nosuchtopic" in self.machine.run("journalctl -u corespan --no-pager"))
        self.machine.run("sed -i '/^CORESPAN/d' /etc/default/corespan; systemctl reset-failed corespan; systemctl restart corespan")
        self.await_ready()

    def test_3_the_journal_has_priorities_and_fields(self):
        # A Kafka that is away: the node listens, and warns of the broker.
        self.machine.run("echo 'CORESPAN_KAFKA_EXTRA_OPTS=\"-Dbootstrap.servers=127.0.0.1:1\"' >>/etc/default/corespan; systemctl restart corespan")
        (warning, *_) = until(lambda: self.entries("PRIORITY=4", "F_BROKER=127.0.0.1:1/bootstrap"))
        self.assertEqual(warning["_SYSTEMD_UNIT"], "corespan.service")
        self.assertEqual(warning["_TRANSPORT"], "journal")
        self.assertEqual(warning["SYSLOG_IDENTIFIER"], "corespan")
        self.assertIn(" broker=127.0.0.1:1/bootstrap", warning["MESSAGE"])
        (listening,) = self.entries("PRIORITY=6", "F_SHARDS=1")
        self.assertRegex(listening["MESSAGE"], "^listening on .* shards=1$")
        self.assertEqual(self.entries("PRIORITY=7"), [])
        self.machine.run("sed -i '/^CORESPAN/d' /etc/default/corespan")

        # The level is changed by a reload here as elsewhere.
        self.machine.configure(self.config + '[log]\nlevel = "debug"\n')
        self.machine.run("systemctl reload corespan")
        until(lambda: self.entries("PRIORITY=7"))

        # JSON stays what it is.
        self.machine.configure(self.config + '[log]\nformat = "json"\n')
        self.machine.run("systemctl restart corespan")
        self.await_ready()
        (line,) = [entry for entry in self.entries("_TRANSPORT=stdout") if '"shards":1' in entry["MESSAGE"]]
        self.assertEqual(json.loads(line["MESSAGE"])["level"], "INFO")
        self.assertEqual(self.entries("F_SHARDS=1"), [])

        self.machine.configure(self.config)
        self.machine.run("systemctl restart corespan")
        self.await_ready()

    def test_3_the_unit_grants_the_locked_memory_that_check_computes(self):
        def needed(shards):
            self.machine.run(f"sed 's/^#shards = .*/shards = {shards}/' /usr/share/corespan/corespan.toml >/tmp/sample.toml")
            words = self.machine.run("corespan check --config /tmp/sample.toml")
            return len(re.findall("^# shard ", words, re.M)), memory(re.search("^# locked memory needed: (.*)$", words, re.M)[1])

        sample, sample_bytes = needed('"auto"')
        one, one_bytes = needed(1)
        limit = int(self.machine.show("LimitMEMLOCK"))
        self.assertEqual(one, 1)
        self.assertLessEqual(sample_bytes, limit)
        if sample > 1:
            # The unit is for every machine: as many shards as there can be.
            self.assertEqual(one_bytes + (sample_bytes - one_bytes) // (sample - 1) * 255, limit)

    def test_4_a_wrong_file_does_not_start(self):
        self.machine.write("/etc/corespan/good", self.config)
        self.machine.run(f"echo nonsense = 1 >>{CONFIG}; ! systemctl restart corespan; systemctl stop corespan")
        self.assertIn("nonsense", self.machine.run("journalctl -u corespan --no-pager"))
        self.machine.run(f"cat /etc/corespan/good >{CONFIG}; rm /etc/corespan/good; systemctl reset-failed corespan; systemctl start corespan")
        self.await_ready()

    def test_5_reload(self):
        pid = self.main_pid()
        self.machine.run("systemctl reload corespan")
        self.assertEqual(self.main_pid(), pid)
        self.await_ready()

    def test_6_kill_is_restarted(self):
        self.assert_restarts_after_a_kill()

    def test_6_watchdog_restarts_a_node_whose_shard_stands_still(self):
        self.assert_restarts_when_a_shard_stands_still()

    def test_7_exposure(self):
        words = self.machine.run("systemd-analyze security --no-pager corespan")
        exposure = float(re.search(r"Overall exposure level for corespan.service: ([0-9.]+)", words)[1])
        print(f"exposure {exposure}", file=sys.stderr)
        self.assertLessEqual(exposure, 2.5, words)
        self.assertEqual(self.machine.run("systemd-analyze verify corespan.service"), "")

    def test_8_an_upgrade_keeps_the_configuration_and_restarts(self):
        pid = self.main_pid()
        # The sample of the new version is another one, so dpkg would ask; unattended, it is told to keep what is there.
        self.install(self.new, "-o Dpkg::Options::=--force-confold")
        self.assertEqual(self.machine.run(f"cat {CONFIG}"), self.config)
        self.assertEqual(self.stat(CONFIG), "640 root corespan")
        self.assertNotEqual(self.main_pid(), pid)
        self.await_ready()
        self.assert_a_client_gets_records()
        # A node that was stopped stays so.
        self.machine.run(f"systemctl stop corespan; dpkg --force-confold -i {self.new}")
        self.assertFalse(self.machine.is_active())
        self.machine.run("systemctl start corespan")
        self.await_ready()

    def test_9_remove_and_purge(self):
        self.machine.run("apt-get remove -y -q corespan")
        self.assertIsNone(get(self.admin, "/ready")[0])
        self.machine.run(f"test ! -e /usr/bin/corespan; test -e {CONFIG}; getent passwd corespan")
        self.assertFalse(self.machine.is_active())
        # Whoever comes back with a configuration of their own is served at once.
        self.install(self.new)
        self.await_ready()
        self.machine.run("apt-get purge -y -q corespan")
        self.assertIsNone(get(self.admin, "/ready")[0])
        left = self.machine.run("find / -xdev -name '*corespan*' -not -path '/proc/*' -not -path '/packages*' -not -path '/run/systemd/system/*' -not -path '/var/log/*'")
        self.assertEqual(left, "")
        self.machine.run("! getent passwd corespan; ! getent group corespan")

    def test_has_the_folder_tuning(self):
        files = {line.split()[-1].removeprefix("."): line.split()[0] for line in self.machine.run(f"dpkg-deb -c {self.new}").splitlines()}
        self.assertEqual(files["/usr/share/corespan/tuning/corespan-tune"], "-rwxr-xr-x")
        self.assertEqual(files["/usr/share/corespan/tuning/60-corespan.conf"], "-rw-r--r--")

    @unittest.skipUnless(STATIC, "the programs were not built for packages")
    def test_depends_on_glibc_and_systemd_only(self):
        self.assertEqual(self.machine.run(f"dpkg-deb -f {self.new} Depends").strip(), "systemd, libc6 (>= 2.34)")

    def test_lint(self):
        words = self.machine.run(f"lintian --allow-root {self.new}", check=False, seconds=120)
        lines = [line for line in words.splitlines() if HAS_MAN_PAGES or "no-manual-page" not in line]
        self.assertEqual(lines, [])


class Rpm(MachineTest):
    """By Debian's rpm, whose database knows nothing of what dpkg has installed: hence --nodeps."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.new = "/packages/new/" + os.path.basename(one(f"{NEW}/*.rpm"))
        cls.old = "/packages/old/" + os.path.basename(one(f"{OLD}/*.rpm"))

    def test_1_install(self):
        self.machine.run("test ! -e /etc/default/corespan; rpm --initdb")
        self.assertIn("enabled but not started", self.machine.run(f"rpm --nodeps -i {self.old}", seconds=120))
        self.assertEqual(self.machine.run("systemctl is-enabled corespan").strip(), "enabled")
        self.assertFalse(self.machine.is_active())
        self.assertEqual(self.stat(CONFIG), "640 root corespan")
        self.assertEqual(self.stat("/etc/corespan"), "750 root corespan")
        self.assertEqual(self.stat("/etc/sysconfig/corespan"), "644 root root")
        self.assertEqual(self.machine.run("rpm -V --nodeps corespan"), "")
        self.assertEqual(self.machine.run("rpm -qc corespan").split(), [CONFIG, "/etc/sysconfig/corespan"])

    def test_2_start_and_a_client_gets_records(self):
        self.machine.configure(self.config)
        self.machine.run("systemctl start corespan")
        self.await_ready()
        self.assert_a_client_gets_records()
        self.assert_as_the_unit_says()

    def test_3_kill_is_restarted(self):
        self.assert_restarts_after_a_kill()

    def test_4_an_upgrade_keeps_the_configuration_and_restarts(self):
        pid = self.main_pid()
        self.machine.run(f"rpm --nodeps -U {self.new}", seconds=120)
        self.assertEqual(self.machine.run(f"cat {CONFIG}"), self.config)
        self.assertEqual(self.stat(CONFIG), "640 root corespan")
        self.assertEqual(self.machine.run("systemctl is-enabled corespan").strip(), "enabled")
        self.assertNotEqual(self.main_pid(), pid)
        self.await_ready()

    def test_5_erase(self):
        self.machine.run("rpm -e --nodeps corespan")
        self.assertIsNone(get(self.admin, "/ready")[0])
        # rpm's way: what was changed stays, as .rpmsave, and the user stays.
        self.machine.run(f"test ! -e /usr/bin/corespan; test ! -e {CONFIG}; test -e {CONFIG}.rpmsave; getent passwd corespan")
        self.machine.run("test ! -e /usr/lib/systemd/system/corespan.service; test ! -e /etc/systemd/system/multi-user.target.wants/corespan.service")

    @unittest.skipUnless(STATIC, "the programs were not built for packages")
    def test_depends_on_glibc_of_rhel_9_only(self):
        needed = {line.split(" ")[0] for line in self.machine.run(f"rpm -qp --requires {self.new}").splitlines()}
        # What rpm itself has to know to read the package.
        needed = {name for name in needed if not name.startswith("rpmlib(")}
        libraries = {name for name in needed if ".so." in name}
        self.assertEqual(needed - libraries, {"systemd", "diffutils"})
        self.assertIn("libc.so.6()(64bit)", libraries)
        for library in libraries:
            name, version = re.fullmatch(r"(\S+?)\((?:GLIBC_([0-9.]+))?\)\(64bit\)", library).groups()
            self.assertIn(name, {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "ld-linux-x86-64.so.2"})
            if version:
                self.assertLessEqual([int(part) for part in version.split(".")], [2, 34], library)

    def test_lint(self):
        self.machine.write("/root/rpmlint.toml", Path(__file__).parents[2].joinpath("packaging/rpmlint.toml").read_text())
        pages = self.machine.run(f"rpm -qlp {self.new}").split()
        for program in ("corespan", "corespan-bench"):
            self.assertIn(f"/usr/share/man/man1/{program}.1.gz", pages)
        words = self.machine.run(f"rpmlint -c /root/rpmlint.toml {self.new}", check=False, seconds=120)
        lines = [line for line in words.splitlines() if re.search(": [EW]: ", line) and (HAS_MAN_PAGES or "no-manual-page" not in line)]
        self.assertEqual(lines, [], words)


class Tarball(MachineTest):
    def test_symbols_fit_the_programs(self):
        self.machine.run("mkdir -p /tmp/t; tar -C /tmp/t -xJf /packages/new/*-debug.tar.xz; tar -C /tmp/t -xJf $(ls /packages/new/*.tar.xz | grep -v debug)", seconds=120)
        for program in ("corespan", "corespan-bench"):
            note = self.machine.run(f"readelf -n /tmp/t/corespan-*/bin/{program}")
            build = re.search("Build ID: ([0-9a-f]+)", note)[1]
            self.machine.run(f"readelf -S /tmp/t/usr/lib/debug/.build-id/{build[:2]}/{build[2:]}.debug | grep -q debug_line; ! readelf -S /tmp/t/corespan-*/bin/{program} | grep -q debug_line")


def install_steps():
    """The shell blocks of README's Install, in their order."""
    (part,) = re.findall(r"^## Install\n(.*?)^## ", README, re.M | re.S)
    build, deb, rpm, tarball, source = re.findall(r"^```sh\n(.*?)^```", part, re.M | re.S)
    # The stage package runs the first itself; the last is how everything else here is built.
    assert build.startswith("./dev package ") and "cargo install" in source, part
    return {"deb": deb, "rpm": rpm, "tarball": tarball}


class ReadmeTest(MachineTest):
    """README's steps as they stand, with Kafka's address in place of 10.0.0.1:9092. The ports are the sample's, so the machine has a network of its own."""

    own_network = True
    # What a user has on most systems: enough for two shards, as long as glommio's buffers are not in huge pages, which count as a whole.
    locked = 8 << 20
    options = ["--private-network", f"--rlimit=RLIMIT_MEMLOCK={locked}"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.port, cls.admin = 8800, 8801

    def steps(self, kind):
        steps = install_steps()[kind]
        self.assertEqual(steps.count("10.0.0.1:9092"), 1, steps)
        return steps.replace("10.0.0.1:9092", self.kafka.address)

    def run_steps(self, steps):
        try:
            self.machine.run(steps, seconds=120)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.machine.run('journalctl -u corespan -n 30 --no-pager')}")

    def assert_served(self):
        self.await_ready()
        self.assert_a_client_gets_records()


class ReadmeDeb(ReadmeTest):
    def test_install_configure_start(self):
        self.run_steps("cd /packages/new\n" + self.steps("deb"))
        self.assert_served()
        self.assert_as_the_unit_says()
        self.assertEqual(self.stat(CONFIG), "640 root corespan")


class ReadmeRpm(ReadmeTest):
    def test_install_configure_start(self):
        # Debian's rpm has a database of its own, which knows nothing of what dpkg has installed.
        steps = self.steps("rpm")
        self.assertEqual(steps.count("rpm -i "), 1)
        self.run_steps("rpm --initdb; cd /packages/new\n" + steps.replace("rpm -i ", "rpm --nodeps -i "))
        self.assert_served()
        self.assert_as_the_unit_says()
        self.assertEqual(self.stat(CONFIG), "640 root corespan")


class ReadmeTarball(ReadmeTest):
    def test_runs_as_an_ordinary_user(self):
        self.machine.run("useradd -m guest; cp /packages/new/*.tar.xz /home/guest")
        self.machine.write("/home/guest/steps", self.steps("tarball"))
        self.machine.run(f"systemd-run --quiet --unit=guest --uid=guest --working-directory=/home/guest -p LimitMEMLOCK={self.locked} sh -e steps")
        try:
            self.assert_served()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.machine.run('journalctl -u guest -n 30 --no-pager')}")
        self.assertEqual(self.machine.run("ps -o user= -C corespan").split(), ["guest"])
        # It is told to end, drains, and with it the steps end well.
        self.machine.run("kill $(pidof corespan)")
        until(lambda: self.machine.run("systemctl is-active guest", check=False).strip() != "active")
        log = self.machine.run("journalctl -u guest --no-pager")
        self.assertIn(": ended\n", log)
        self.assertIn("guest.service: Deactivated successfully", log)


if not NOTIFIES:
    print("tried with Type=exec and without the watchdog: the binary does not know NOTIFY_SOCKET", file=sys.stderr)
if not HAS_MAN_PAGES:
    print("no man pages: lintian and rpmlint are not asked about them", file=sys.stderr)

if __name__ == "__main__":
    unittest.main(verbosity=2)
