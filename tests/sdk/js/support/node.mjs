// A corespan node as a process of its own, configured for one test file.
import { once } from "node:events";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { start } from "./child.mjs";
import { corespanBinary, kafkaBootstrap } from "./environment.mjs";
import { freePort } from "./ports.mjs";

const nodes = new Set();

export class Node {
  // For the end of a test file: a node that a failed test left running would keep the file from ending.
  static async killAll() {
    await Promise.all([...nodes].map((node) => node.kill()));
  }

  // settings: more lines of configuration, each key by its full name. listeners: more `[[listen]]` blocks.
  static async start(topics, settings = "", listeners = "") {
    const node = new Node();
    node.port = await freePort();
    node.adminPort = await freePort();
    node.folder = mkdtempSync(join(tmpdir(), "corespan-"));
    const config = join(node.folder, "corespan.toml");
    writeFileSync(
      config,
      `drain.seconds = 1
publish.pattern = ".*"
${settings}

[[listen]]
address = "127.0.0.1:${node.port}"
admin = "127.0.0.1:${node.adminPort}"
${listeners}

[cores]
shards = 2

[kafka.consumer]
"bootstrap.servers" = "${kafkaBootstrap()}"
topics = ${JSON.stringify(topics)}

[kafka.producer]
"bootstrap.servers" = "${kafkaBootstrap()}"
`,
    );
    node.logFile = join(node.folder, "log");
    const log = openSync(node.logFile, "w");
    node.process = start(corespanBinary(), ["serve", "--config", config], { stdio: ["ignore", log, log] });
    node.exit = once(node.process, "exit");
    nodes.add(node);
    try {
      await node.#ready();
    } catch (error) {
      // A process that is left behind would keep the test file from ending.
      await node.kill();
      throw error;
    }
    return node;
  }

  get websocket() {
    return `ws://127.0.0.1:${this.port}/connection/websocket`;
  }

  log() {
    return readFileSync(this.logFile, "utf8");
  }

  async #ready() {
    const deadline = Date.now() + 30_000;
    let last = "no answer";
    while (Date.now() < deadline) {
      if (this.process.exitCode !== null) throw new Error(`corespan ended with ${this.process.exitCode}:\n${this.log()}`);
      try {
        const answer = await fetch(`http://127.0.0.1:${this.adminPort}/ready`, { signal: AbortSignal.timeout(2_000) });
        if (answer.status === 200) return;
        last = `${answer.status} ${await answer.text()}`;
      } catch (error) {
        last = String(error.cause ?? error);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`corespan is not ready after 30 s (${last}):\n${this.log()}`);
  }

  // Sends SIGTERM and returns the exit code; null for a node that did not end within 30 s.
  async terminate() {
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 30_000);
    const [code] = await this.exit;
    clearTimeout(timer);
    return code;
  }

  async kill() {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill("SIGKILL");
      await this.exit;
    }
    nodes.delete(this);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
