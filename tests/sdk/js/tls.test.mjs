// TLS with the official SDK and Node's own client: whole bursts, certificates by name, renewed ones, clients' certificates, tickets, what is refused.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import WebSocket from "ws";
import { builds, connected, event, Publications, subscribed } from "./support/client.mjs";
import { ConsoleProducer, createTopic } from "./support/kafka.mjs";
import { Node } from "./support/node.mjs";
import { freePort } from "./support/ports.mjs";
import { after, before, describe, test } from "./support/test.mjs";

const run = Math.random().toString(36).slice(2, 8);
const topic = `encrypted-${run}`;
const folder = mkdtempSync(join(tmpdir(), "corespan-tls-"));
const file = (name) => join(folder, name);
const clients = [];
const sockets = [];
let node, producer, port, closedPort;

function openssl(...args) {
  execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"], timeout: 30_000 });
}

// An authority, and certificates that it has signed.
function authority(name) {
  openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", `/CN=${name}`, "-keyout", file(`${name}.key`), "-out", file(`${name}.pem`));
}

function certificate(signer, name, subject, host) {
  openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", `/CN=${subject}`, "-addext", `subjectAltName=DNS:${host}`, "-keyout", file(`${name}.key`), "-out", file(`${name}.csr`));
  openssl("x509", "-req", "-in", file(`${name}.csr`), "-CA", file(`${signer}.pem`), "-CAkey", file(`${signer}.key`), "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", file(`${name}.pem`));
}

const read = (name) => readFileSync(file(name));

before(async () => {
  for (const name of ["ca", "clients", "strangers"]) authority(name);
  certificate("ca", "one", "one", "one.example");
  certificate("ca", "two", "two", "two.example");
  certificate("ca", "newer", "newer", "one.example");
  certificate("clients", "ada", "ada", "ada.example");
  certificate("strangers", "eve", "eve", "eve.example");
  await createTopic(topic, 4);
  port = await freePort();
  closedPort = await freePort();
  const more = (address, rest) => `[[listen]]\naddress = "127.0.0.1:${address}"\n${rest}`;
  const own = (name) => `tls.cert = "${file(`${name}.pem`)}"\ntls.key = "${file(`${name}.key`)}"`;
  const two = `tls.cert = ["${file("one.pem")}", "${file("two.pem")}"]\ntls.key = ["${file("one.key")}", "${file("two.key")}"]\ntls.client.ca = "${file("clients.pem")}"`;
  node = await Node.start([topic], "", `${more(port, two)}\n${more(closedPort, `${own("two")}\ntls.client.ca = "${file("clients.pem")}"\ntls.client.required = true`)}`);
  producer = new ConsoleProducer(topic);
});

after(async () => {
  clients.forEach((client) => client.disconnect());
  sockets.forEach((socket) => socket.destroy());
  await Node.killAll();
  await producer?.close();
  rmSync(folder, { recursive: true, force: true });
});

// A WebSocket class that trusts the authority, for the SDK.
function trusting(options) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { ca: read("ca.pem"), servername: "one.example", ...options });
    }
  };
}

function encrypted(build, options = {}, at = port) {
  const client = build.client(`wss://127.0.0.1:${at}/connection/websocket`, { websocket: trusting(options) });
  clients.push(client);
  return client;
}

// A TLS connection of Node's own, or the error.
function dial(options = {}, at = port) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host: "127.0.0.1", port: at, ca: read("ca.pem"), servername: "one.example", ...options }, () => resolve(socket));
    sockets.push(socket);
    socket.on("error", reject);
  });
}

const served = (socket) => socket.getPeerCertificate().subject.CN;

for (const build of builds) {
  describe(`centrifuge, ${build.name}`, () => {
    test("3000 records of a kilobyte of one key arrive in order, and what is published comes back", async () => {
      const key = `k-${build.name}`;
      const client = encrypted(build);
      await connected(client);
      const subscription = client.newSubscription(`/${topic}/${key}`);
      const publications = new Publications(subscription, build.decode);
      await subscribed(subscription);
      const pad = "x".repeat(980);
      for (let n = 1; n <= 3_000; n++) producer.send(key, JSON.stringify({ n, pad }));
      await publications.count(3_000, 40_000);
      assert.deepEqual(publications.values.map((value) => value.n), Array.from({ length: 3_000 }, (_, index) => index + 1));
      await subscription.publish(build.encode({ n: 3_001 }));
      await publications.count(3_001);
      assert.deepEqual(publications.said.map((said) => said.event), ["subscribing", "subscribed"]);
    });
  });
}

test("the plain port serves beside those with TLS", async () => {
  const client = builds[0].client(node.websocket, {});
  clients.push(client);
  await connected(client);
});

test("a client gets the certificate of the host that it names, else the first", async () => {
  assert.equal(served(await dial({ servername: "two.example" })), "two");
  assert.equal(served(await dial({ servername: "one.example" })), "one");
  const nobody = await dial({ servername: "", checkServerIdentity: () => undefined });
  assert.equal(served(nobody), "one");
  assert.equal(nobody.getProtocol(), "TLSv1.3");
  assert.equal((await dial({ maxVersion: "TLSv1.2" })).getProtocol(), "TLSv1.2");
  assert.equal((await dial({ ALPNProtocols: ["h2", "http/1.1"] })).alpnProtocol, "http/1.1");
});

test("a session is resumed by its ticket, whichever shard it meets", async () => {
  const first = await dial();
  const session = new Promise((resolve) => first.once("session", resolve));
  first.write("GET /nothing HTTP/1.1\r\nHost: one.example\r\n\r\n");
  const ticket = await session;
  for (let round = 0; round < 6; round++) assert.ok((await dial({ session: ticket })).isSessionReused());
});

test("old versions, no ciphers in common, plain HTTP and garbage are closed, and the node goes on", async () => {
  for (const options of [{ minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" }, { maxVersion: "TLSv1.2", ciphers: "AES128-SHA" }, { maxVersion: "TLSv1.2", ciphers: "AES256-GCM-SHA384" }]) {
    await assert.rejects(dial(options));
  }
  for (const text of ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\xff\xff" + "z".repeat(70_000), "\x80".repeat(100)]) {
    const socket = net.connect(port, "127.0.0.1");
    sockets.push(socket);
    socket.on("error", () => {});
    socket.resume();
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.write(Buffer.from(text, "latin1"));
    await closed;
  }
  await dial();
});

test("nobody renegotiates", async () => {
  const socket = await dial({ maxVersion: "TLSv1.2" });
  const outcome = new Promise((resolve) => {
    socket.once("error", resolve);
    socket.once("close", () => resolve(new Error("closed")));
    socket.renegotiate({}, (error) => resolve(error ?? "it was done"));
  });
  assert.ok((await outcome) instanceof Error);
  await dial();
});

test("a client's certificate is asked for where it is required, and must be of the authority", async () => {
  const build = builds[0];
  const ada = encrypted(build, { cert: read("ada.pem"), key: read("ada.key"), servername: "two.example" }, closedPort);
  await connected(ada);
  // TLS 1.3 tells a client only after its handshake that it is refused: no answer comes.
  for (const options of [{}, { cert: read("eve.pem"), key: read("eve.key") }]) {
    const outcome = dial({ servername: "two.example", ...options }, closedPort).then(
      (socket) =>
        new Promise((resolve) => {
          socket.removeAllListeners("error");
          socket.on("error", () => resolve("refused"));
          socket.on("end", () => resolve("refused"));
          socket.on("data", () => resolve("answered"));
          socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }),
      () => "refused",
    );
    assert.equal(await outcome, "refused");
  }
  await assert.rejects(dial({ servername: "one.example", cert: read("eve.pem"), key: read("eve.key"), maxVersion: "TLSv1.2" }), "not of the authority, although none is required");
});

test("a certificate names the user, and a token of somebody else is refused", async () => {
  const secret = "a secret of the tests, of 32 bytes or more";
  const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (sub) => {
    const message = `${encoded({ alg: "HS256" })}.${encoded({ sub, exp: Math.floor(Date.now() / 1000) + 600 })}`;
    return `${message}.${createHmac("sha256", secret).update(message).digest("base64url")}`;
  };
  const at = await freePort();
  await Node.start(
    [topic],
    `entitlement.type = "jwt"\nentitlement.jwt.hmac.secret = "${secret}"`,
    `[[listen]]\naddress = "127.0.0.1:${at}"\ntls.cert = "${file("two.pem")}"\ntls.key = "${file("two.key")}"\ntls.client.ca = "${file("clients.pem")}"`,
  );
  const come = (sub) => {
    const websocket = trusting({ cert: read("ada.pem"), key: read("ada.key"), servername: "two.example" });
    const client = builds[0].client(`wss://127.0.0.1:${at}/connection/websocket`, { websocket, token: token(sub) });
    clients.push(client);
    return client;
  };
  await connected(come("ada"));
  const bob = come("bob");
  const gone = event(bob, "disconnected");
  bob.connect();
  assert.equal((await gone).code, 103);
});

test("another certificate is served once its files say so, nobody is disconnected, and a bad one changes nothing", async () => {
  const build = builds[0];
  const client = encrypted(build);
  await connected(client);
  let left = 0;
  client.on("connecting", () => (left += 1));
  const becomes = async (condition, what) => {
    const deadline = Date.now() + 15_000;
    while (!(await condition())) {
      assert.ok(Date.now() < deadline, what);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  renameSync(file("newer.key"), file("one.key"));
  renameSync(file("newer.pem"), file("one.pem"));
  await becomes(async () => served(await dial()) === "newer", "the newer certificate is served");
  openssl("genpkey", "-algorithm", "ed25519", "-out", file("other.key"));
  renameSync(file("other.key"), file("one.key"));
  await becomes(() => /certificates stay as they were/.test(node.log()), "the log says that key and certificate do not fit");
  assert.equal(served(await dial()), "newer");
  const subscription = client.newSubscription(`/${topic}/goes-on`);
  await subscribed(subscription);
  assert.equal(left, 0);
});

test("a client that reads slowly has every byte once it reads", async () => {
  const key = "slow";
  const socket = await dial({ highWaterMark: 1024 });
  const accept = "GET /connection/websocket HTTP/1.1\r\nHost: one.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
  const frame = (text) => {
    const payload = Buffer.from(text);
    return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
  };
  let bytes = Buffer.alloc(0);
  const take = (chunk) => (bytes = Buffer.concat([bytes, chunk]));
  socket.on("data", take);
  const holds = async (pattern) => {
    while (!pattern.test(bytes.toString("latin1"))) await event(socket, "data");
  };
  socket.write(accept);
  socket.write(frame('{"id":1,"connect":{}}'));
  socket.write(frame(`{"id":2,"subscribe":{"channel":"/${topic}/${key}"}}`));
  await holds(/"id":2,/);
  socket.pause();
  const pad = "y".repeat(3_000);
  const count = 2_000;
  for (let n = 1; n <= count; n++) producer.send(key, JSON.stringify({ n, pad }));
  // Its outbox is full, and it is parked: 6 MB are more than sockets and outbox hold.
  const parked = async () => /corespan_subscriptions_parked_total\{[^}]*\} [1-9]/.test(await (await fetch(`http://127.0.0.1:${node.adminPort}/metrics`)).text());
  const deadline = Date.now() + 30_000;
  while (!(await parked())) {
    assert.ok(Date.now() < deadline, "its subscription is parked");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const seen = () => [...bytes.toString("latin1").matchAll(/"n":(\d+)/g)].map((match) => Number(match[1]));
  // In small bites at first, so that writes come back short at many places.
  socket.removeListener("data", take);
  for (let bite = 1; bite < 400; bite++) {
    const chunk = socket.read(1 + ((bite * 7919) % 4_093)) ?? socket.read();
    if (chunk) take(chunk);
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.on("data", take);
  socket.resume();
  const end = Date.now() + 40_000;
  while (seen().length < count) {
    assert.ok(Date.now() < end, `${seen().length} of ${count}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.deepEqual(seen(), Array.from({ length: count }, (_, index) => index + 1));
});
