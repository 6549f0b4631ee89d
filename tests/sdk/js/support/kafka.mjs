// Records of a real Apache Kafka, through Kafka's own tools.
import { once } from "node:events";
import { run, start } from "./child.mjs";
import { devScript, kafkaBootstrap } from "./environment.mjs";

const NULL = "__null__";

export async function kafkaTool(className, ...args) {
  return run(devScript(), ["kafka", className, "--bootstrap-server", kafkaBootstrap(), ...args], 50_000);
}

export async function createTopic(name, partitions) {
  await kafkaTool("TopicCommand", "--create", "--topic", name, "--partitions", String(partitions));
}

// Kafka's console producer (Java, murmur2), kept running: `send` returns at once, records leave in order.
export class ConsoleProducer {
  constructor(topic) {
    this.errors = "";
    const properties = ["parse.key=true", "parse.headers=true", `null.marker=${NULL}`];
    this.process = start(
      devScript(),
      ["kafka", "ConsoleProducer", "--bootstrap-server", kafkaBootstrap(), "--topic", topic, "--timeout", "0"].concat(
        properties.flatMap((property) => ["--property", property]),
      ),
      // It runs as long as the test file, which is longer than other tools may.
      { stdio: ["pipe", "ignore", "pipe"], env: { ...process.env, CORESPAN_KAFKA_TOOL_SECONDS: "" } },
    );
    // Should it end early, `close` says so; a write to its pipe must not end the tests first.
    this.process.stdin.on("error", (error) => (this.errors += error));
    this.process.stderr.on("data", (text) => (this.errors += text));
  }

  // headers: an object of texts. A key or value of null is Kafka's null.
  send(key, value, headers = {}) {
    const pairs = Object.entries(headers).map(([name, text]) => `${name}:${text}`);
    const fields = [pairs.length > 0 ? pairs.join(",") : null, key, value].map((field) => field ?? NULL);
    if (fields.some((field) => /[\t\n]/.test(field))) throw new Error("the console producer takes no tabs and line feeds");
    this.process.stdin.write(fields.join("\t") + "\n");
  }

  // Ends when Kafka has every record.
  async close() {
    const exit = once(this.process, "exit");
    this.process.stdin.end();
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 30_000);
    const [code] = await exit;
    clearTimeout(timer);
    if (code !== 0 || /ERROR/.test(this.errors)) throw new Error(`console producer ended with ${code}: ${this.errors}`);
  }
}
