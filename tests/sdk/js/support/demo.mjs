// `corespan demo` as a process of its own, or the one that CORESPAN_DEMO_URL names.
import { once } from "node:events";
import { start } from "./child.mjs";
import { corespanBinary } from "./environment.mjs";
import { freePort } from "./ports.mjs";

export class Demo {
  static async start() {
    const demo = new Demo();
    if (process.env.CORESPAN_DEMO_URL) {
      demo.url = process.env.CORESPAN_DEMO_URL;
    } else {
      const ports = ["--port", String(await freePort()), "--admin-port", String(await freePort())];
      demo.process = start(corespanBinary(), ["demo", ...ports], { stdio: ["ignore", "pipe", "pipe"] });
      try {
        demo.url = await demo.#announced();
      } catch (error) {
        await demo.stop();
        throw error;
      }
    }
    const { host, port } = new URL(demo.url);
    demo.port = Number(port);
    demo.websocket = `ws://${host}/connection/websocket`;
    return demo;
  }

  // The address that it prints.
  async #announced() {
    this.exit = once(this.process, "exit");
    let output = "";
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Error(`corespan demo ${why}:\n${output}`));
      const timer = setTimeout(() => fail("printed no address within 30 s"), 30_000);
      this.exit.then(([code]) => fail(`ended with ${code}`));
      for (const stream of [this.process.stdout, this.process.stderr]) {
        stream.setEncoding("utf8").on("data", (text) => {
          output = (output + text).slice(-10_000);
          const found = /http:\/\/[\w.:[\]]+\/demo\b/.exec(output);
          if (!found) return;
          clearTimeout(timer);
          resolve(found[0]);
        });
      }
    });
  }

  async stop() {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 10_000);
    await this.exit;
    clearTimeout(timer);
  }
}
