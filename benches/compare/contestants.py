"""Who is compared: how each is built, started, and what its records look like."""
import json
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
CENTRIFUGO = "github.com/centrifugal/centrifugo/v5"
CENTRIFUGO_VERSION = "v5.4.9"
# A cold build of Centrifugo or librdkafka on two busy cores.
BUILD_SECONDS_MAX = 900


class NotBuilt(Exception):
    """A contestant that cannot take part, and why."""


def build(what, command, folder, log, environment=None):
    """Runs a build step; the log has its words."""
    with open(log, "ab") as output:
        try:
            status = subprocess.run(
                command, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                timeout=BUILD_SECONDS_MAX, check=False,
            ).returncode
        except FileNotFoundError as error:
            raise NotBuilt(f"{what}: {error.filename} is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise NotBuilt(f"{what}: not built within {BUILD_SECONDS_MAX} s; see {log}") from error
    if status:
        raise NotBuilt(f"{what}: {' '.join(map(str, command))} ended with {status}; see {log}")


class Contestant:
    """A server that hears a topic and tells each record to the clients of /TOPIC/KEY. `prepare` leaves `self.program`."""

    name = ""
    version = None  # behind the program
    envelope = ""  # around each value in Kafka, if the server wants one
    ready_path = "/"

    def __init__(self, cache):
        self.cache = cache / self.name
        self.cache.mkdir(parents=True, exist_ok=True)
        self.program = None

    def prepare(self):
        raise NotImplementedError

    def command(self, run):
        """The server's command line; files that it reads go into `run.folder`."""
        raise NotImplementedError

    def path(self):
        """Of the WebSocket."""
        return "/"

    def ready_port(self, run):
        return run.port

    def version_command(self):
        return [self.program, *self.version] if self.version else None


class Corespan(Contestant):
    name = "corespan"
    version = ["--version"]
    ready_path = "/ready"

    def prepare(self):
        self.program = binaries() / "corespan"
        if not self.program.exists():
            raise NotBuilt(f"corespan: there is no {self.program}; cargo build --release, or name a folder by CORESPAN_BINARIES")

    def path(self):
        return "/connection/websocket"

    def ready_port(self, run):
        return run.port + 1

    def command(self, run):
        config = run.folder / "corespan.toml"
        kafka = f'"bootstrap.servers" = "{run.brokers}"\n'
        config.write_text(
            f'[listen]\naddress = "127.0.0.1:{run.port}"\nadmin = "127.0.0.1:{run.port + 1}"\n\n[cores]\nshards = [{run.cpu}]\n\n'
            f'[kafka.consumer]\n{kafka}topics = ["{run.topic}"]\n\n[kafka.producer]\n{kafka}\n[topic."{run.topic}"]\npartitioner = "murmur2"\n'
        )
        return [self.program, "serve", "--config", config]


class Cargo(Contestant):
    """A package of its own beside this file."""

    package = ""
    binary = ""

    def prepare(self):
        # One folder for all packages: librdkafka is built once.
        target = self.cache.parent / "target"
        build(self.name, ["cargo", "build", "--release", "--locked"], HERE / self.package, self.cache / "build.log", {"CARGO_TARGET_DIR": str(target)})
        self.program = target / "release" / self.binary

    def command(self, run):
        return [self.program, f"127.0.0.1:{run.port}", run.brokers, run.topic]


class Bare(Cargo):
    name = package = binary = "bare"


class Tungstenite(Cargo):
    name = package = "tungstenite"
    binary = "fan-out"


class Bun(Contestant):
    name = "bun"
    version = ["--version"]

    def prepare(self):
        for file in ("package.json", "package-lock.json", "server.js"):
            shutil.copy(HERE / "bun" / file, self.cache / file)
        self.program = self.cache / "node_modules/.bin/bun"
        if not self.program.exists():
            build(self.name, ["npm", "ci", "--no-audit", "--no-fund"], self.cache, self.cache / "build.log")

    def command(self, run):
        return [self.program, self.cache / "server.js", run.port, run.brokers, run.topic]


class Centrifugo(Contestant):
    name = "centrifugo"
    version = ["version"]
    ready_path = "/health"
    envelope = '{"method":"publish","payload":{"channel":"{subject}","data":{value}}}'

    def prepare(self):
        named = os.environ.get("CENTRIFUGO_BIN")
        self.program = Path(named) if named else self.cache / f"centrifugo-{CENTRIFUGO_VERSION}"
        if self.program.exists():
            return
        if named:
            raise NotBuilt(f"centrifugo: there is no {named} (CENTRIFUGO_BIN)")
        module = self.cache / "module"
        module.mkdir(exist_ok=True)
        log = self.cache / "build.log"
        environment = {"GOFLAGS": "-mod=mod"}
        if not (module / "go.mod").exists():
            build(self.name, ["go", "mod", "init", "throwaway"], module, log, environment)
        build(self.name, ["go", "get", f"{CENTRIFUGO}@{CENTRIFUGO_VERSION}"], module, log, environment)
        build(self.name, ["go", "build", "-trimpath", "-o", self.program, CENTRIFUGO], module, log, environment)

    def path(self):
        return "/connection/websocket"

    def command(self, run):
        consumer = {
            "name": "compare", "type": "kafka",
            "kafka": {"brokers": run.brokers.split(","), "topics": [run.topic], "consumer_group": f"centrifugo-{run.topic}"},
        }
        config = run.folder / "centrifugo.json"
        config.write_text(json.dumps({
            "address": "127.0.0.1", "port": str(run.port), "health": True, "log_level": "warn", "allowed_origins": ["*"],
            "client_insecure": True, "allow_anonymous_connect_without_token": True, "allow_subscribe_for_client": True,
            "allow_subscribe_for_anonymous": True, "consumers": [consumer],
        }, indent=1))
        return [self.program, "--config", config]


def binaries():
    """Where corespan and corespan-bench are."""
    return Path(os.environ.get("CORESPAN_BINARIES", PROJECT / "target/release")).resolve()


ALL = {kind.name: kind for kind in (Corespan, Bare, Tungstenite, Bun, Centrifugo)}
