// Ports for the nodes that tests start. 20000 to 29999 belong to the SDK tests (tests/README.md says who has the others), below those that the kernel
// gives to clients, so that no connection of anybody takes one between its choice and its use.
import { once } from "node:events";
import { createServer } from "node:net";

const FIRST = 20_000;
const COUNT = 10_000;
// Test programs that run beside each other begin at different places.
let next = (process.pid * 97) % COUNT;

async function isFree(port) {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  await once(server.close(), "close");
  return true;
}

export async function freePort() {
  for (let tried = 0; tried < COUNT; tried++) {
    const port = FIRST + next;
    next = (next + 1) % COUNT;
    if (await isFree(port)) return port;
  }
  throw new Error(`no port from ${FIRST} to ${FIRST + COUNT - 1} is free`);
}
