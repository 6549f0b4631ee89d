// A TCP proxy between a client and a node: the network that a test can cut, and point at another node.
import { once } from "node:events";
import { connect, createServer } from "node:net";

const proxies = new Set();

export class Proxy {
  // For the end of a test file: a proxy that a failed test left open would keep the file from ending.
  static closeAll() {
    proxies.forEach((proxy) => proxy.close());
  }

  static async start(targetPort) {
    const proxy = new Proxy();
    proxy.targetPort = targetPort;
    proxy.accepted = 0;
    proxy.pulled = false;
    proxy.pairs = new Set();
    proxy.server = createServer((near) => {
      if (proxy.pulled) return near.on("error", () => {}).resetAndDestroy();
      proxy.accepted += 1;
      const far = connect(proxy.targetPort, "127.0.0.1");
      const pair = [near, far];
      proxy.pairs.add(pair);
      const end = () => {
        pair.forEach((socket) => socket.destroy());
        proxy.pairs.delete(pair);
      };
      for (const socket of pair) socket.setNoDelay(true).on("error", end).on("close", end);
      near.pipe(far);
      far.pipe(near);
    }).listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    proxies.add(proxy);
    proxy.websocket = `ws://127.0.0.1:${proxy.server.address().port}/connection/websocket`;
    return proxy;
  }

  // Breaks every connection, with a reset and without a WebSocket close: what a lost network looks like.
  cut() {
    for (const pair of this.pairs) pair.forEach((socket) => socket.resetAndDestroy());
  }

  // Pulls the cable: breaks every connection and lets no new one through until `plug`.
  pull() {
    this.pulled = true;
    this.cut();
  }

  plug() {
    this.pulled = false;
  }

  close() {
    proxies.delete(this);
    this.server.close();
    this.cut();
  }
}
