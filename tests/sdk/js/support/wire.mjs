// The protocol in JSON by hand: for frames that no SDK sends, and for more subscriptions and publishes than an SDK is quick with.
import { once } from "node:events";
import WebSocket from "ws";

const wires = new Set();

export class Wire {
  // For the end of a test file: a socket that a failed test left open would keep the file from ending.
  static closeAll() {
    wires.forEach((wire) => wire.close());
  }

  // Connects; `onPush` is called with every push.
  static async open(endpoint, onPush = () => {}) {
    const wire = await Wire.bare(endpoint, onPush);
    await wire.call({ connect: {} });
    return wire;
  }

  // A socket on which not even `connect` has been said.
  static async bare(endpoint, onPush = () => {}) {
    const wire = new Wire();
    wire.waiting = new Map();
    wire.id = 0;
    wire.socket = new WebSocket(endpoint);
    // Resolves with what the server said at the close, and ends every call that is open.
    wire.closed = new Promise((resolve) => {
      wire.socket.on("error", () => {});
      wire.socket.once("close", (code, reason) => {
        wires.delete(wire);
        resolve(code);
        wire.waiting.forEach(({ reject }) => reject(new Error(`closed with ${code} ${reason}`)));
        wire.waiting.clear();
      });
    });
    wire.socket.on("message", (data) => {
      for (const line of data.toString().split("\n")) {
        const reply = JSON.parse(line);
        if (reply.push) onPush(reply.push);
        else if (reply.id) wire.#answer(reply);
        else wire.socket.send("{}"); // a ping
      }
    });
    await Promise.race([once(wire.socket, "open"), wire.closed.then((code) => Promise.reject(new Error(`closed with ${code} before it was open`)))]);
    wires.add(wire);
    return wire;
  }

  #answer(reply) {
    const { resolve, timer } = this.waiting.get(reply.id);
    this.waiting.delete(reply.id);
    clearTimeout(timer);
    resolve(reply);
  }

  // The answer to the command ID, whoever sent it.
  reply(id, milliseconds = 30_000) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to command ${id} within ${milliseconds} ms`)), milliseconds);
      const end = (error) => (clearTimeout(timer), reject(error));
      this.waiting.set(id, { resolve, reject: end, timer });
    });
  }

  // Sends commands in one frame; resolves with their answers, which may be errors.
  callAll(commands) {
    const replies = [];
    const lines = commands.map((command) => {
      const id = ++this.id;
      replies.push(this.reply(id));
      return JSON.stringify({ id, ...command });
    });
    this.socket.send(lines.join("\n"));
    return Promise.all(replies);
  }

  async call(command) {
    return (await this.callAll([command]))[0];
  }

  // Sends this text as it is, and `%` in it becomes the command's number; resolves with the answer.
  callText(text) {
    const id = ++this.id;
    const reply = this.reply(id);
    this.socket.send(text.replace("%", String(id)));
    return reply;
  }

  close() {
    wires.delete(this);
    this.socket.terminate();
  }
}
