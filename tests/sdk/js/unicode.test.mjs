// Texts that are no Unicode: half of a surrogate pair, which JavaScript strings may hold and JSON can say, and bytes that are not UTF-8. Error 107 for that
// command, and the connection goes on: a disconnect for it would be for good, for every page that shows such a name.
import assert from "node:assert/strict";
import { once } from "node:events";
import WebSocket from "ws";
import { builds, connected, subscribed } from "./support/client.mjs";
import { createTopic } from "./support/kafka.mjs";
import { Node } from "./support/node.mjs";
import { bytes, fields, framed, number, text, unframed } from "./support/protobuf.mjs";
import { after, before, test } from "./support/test.mjs";
import { Wire } from "./support/wire.mjs";

const run = Math.random().toString(36).slice(2, 8);
const topic = `vehicles-${run}`;
const good = `/${topic}/1`;
let node;
const clients = [];

before(async () => {
  await createTopic(topic, 1);
  node = await Node.start([topic]);
});

after(async () => {
  clients.forEach((client) => client.disconnect());
  Wire.closeAll();
  await Node.killAll();
});

// As JSON spells them.
const halves = ["\\ud83d", "\\ude97", "\\ude97\\ud83d", "x\\uD83Dy", "\\ud83d\\ud83d\\ude97"];
const commands = {
  "the channel of subscribe": (half) => `{"id":%,"subscribe":{"channel":"/${topic}/${half}"}}`,
  "the channel of subscribe, in the topic": (half) => `{"id":%,"subscribe":{"channel":"/${half}/1"}}`,
  "the channel of unsubscribe": (half) => `{"id":%,"unsubscribe":{"channel":"/${topic}/${half}"}}`,
  "the channel of publish": (half) => `{"id":%,"publish":{"channel":"/${topic}/${half}","data":1}}`,
  "the channel of history": (half) => `{"id":%,"history":{"channel":"/${topic}/${half}","limit":1}}`,
  "the epoch of subscribe": (half) => `{"id":%,"subscribe":{"channel":"${good}","recover":true,"offset":1,"epoch":"${half}"}}`,
  "the epoch of history": (half) => `{"id":%,"history":{"channel":"${good}","limit":1,"since":{"offset":1,"epoch":"${half}"}}}`,
  "the token of subscribe": (half) => `{"id":%,"subscribe":{"channel":"${good}","token":"${half}"}}`,
  "the method of rpc": (half) => `{"id":%,"rpc":{"method":"${half}","data":1}}`,
};

for (const [where, command] of Object.entries(commands))
  test(`half a surrogate pair in ${where} is error 107, and the next command is answered`, async () => {
    const wire = await Wire.open(node.websocket);
    for (const half of halves) {
      const refused = await wire.callText(command(half));
      assert.equal(refused.error?.code, 107, `${command(half)}: ${JSON.stringify(refused)}`);
      const next = await wire.call({ history: { channel: good, limit: 0 } });
      assert.ok(next.history, JSON.stringify(next));
    }
    // Nothing is left of what was refused: this is no "already subscribed".
    assert.ok((await wire.call({ subscribe: { channel: good } })).subscribe);
    wire.close();
  });

test("half a surrogate pair beside good commands in one frame is error 107 for its own alone", async () => {
  const wire = await Wire.open(node.websocket);
  const [first, third] = [wire.id + 1, wire.id + 3];
  const before = wire.reply(first);
  const after = wire.reply(third);
  wire.id = first;
  const refused = wire.callText(
    `{"id":${first},"subscribe":{"channel":"${good}"}}\n{"id":%,"subscribe":{"channel":"/${topic}/\\ud83d"}}\n{"id":${third},"publish":{"channel":"${good}","data":"after"}}`,
  );
  assert.ok((await before).subscribe);
  assert.equal((await refused).error?.code, 107);
  assert.deepEqual((await after).publish, {});
  wire.close();
});

test("a whole surrogate pair is the same subject, written either way", async () => {
  const subject = `/${topic}/🚗 ${run}`;
  let arrived;
  const record = new Promise((resolve) => (arrived = resolve));
  const wire = await Wire.open(node.websocket, arrived);
  assert.ok((await wire.callText(`{"id":%,"subscribe":{"channel":"/${topic}/\\ud83d\\uDE97 ${run}"}}`)).subscribe);
  assert.ok((await wire.call({ publish: { channel: subject, data: 1 } })).publish);
  const push = await record;
  assert.equal(push.channel, subject);
  assert.equal(push.pub.data, 1);
  wire.close();
});

test("half a surrogate pair in name and version of connect is ignored", async () => {
  const wire = await Wire.bare(node.websocket);
  const reply = await wire.callText('{"id":%,"connect":{"name":"\\ud83d","version":"\\ude97"}}');
  assert.ok(reply.connect?.client, JSON.stringify(reply));
  assert.ok((await wire.call({ subscribe: { channel: good } })).subscribe);
  wire.close();
});

test("half a surrogate pair within a published value is a value like any other", async () => {
  let arrived;
  const record = new Promise((resolve) => (arrived = resolve));
  const wire = await Wire.open(node.websocket, arrived);
  await wire.call({ subscribe: { channel: `${good}/value` } });
  assert.ok((await wire.callText(`{"id":%,"publish":{"channel":"${good}/value","data":{"half":"\\ud83d"}}}`)).publish);
  assert.deepEqual((await record).pub.data, { half: "\ud83d" });
  wire.close();
});

for (const build of builds)
  test(`centrifuge, ${build.name}: a name with half a surrogate pair ends its own subscription, publish, history and rpc alone`, async () => {
    const client = build.client(node.websocket, { name: "\ud83d", version: "\ud83d" });
    clients.push(client);
    const moves = [];
    await connected(client);
    for (const name of ["connecting", "disconnected"]) client.on(name, ({ code, reason }) => moves.push(`${name} ${code} ${reason}`));
    const bad = `/${topic}/\ud83d`;
    const data = build.encode(1);
    const code = { code: 107 };
    await assert.rejects(subscribed(client.newSubscription(bad)), code);
    await assert.rejects(client.publish(bad, data), code);
    await assert.rejects(client.history(bad, { limit: 1 }), code);
    await assert.rejects(client.rpc("\ud83d", data), code);
    await subscribed(client.newSubscription(good));
    assert.deepEqual(await client.publish(good, data), {});
    assert.deepEqual(moves, []);
    client.disconnect();
  });

// Not UTF-8, each in its own way.
const badBytes = {
  "a byte that begins nothing": [0xff],
  "half of a surrogate pair": [0xed, 0xa0, 0xbd],
  "a character that is cut off": [0xf0, 0x9f, 0x9a],
  "a letter in two bytes": [0xc1, 0xa1],
};
// The field of a command by its number, with the field of the name.
const prefix = [...Buffer.from(`/${topic}/`)];
const binary = {
  "the channel of subscribe": (bad) => bytes(5, bytes(1, [...prefix, ...bad])),
  "the token of subscribe": (bad) => bytes(5, [...text(1, good), ...bytes(2, bad)]),
  "the epoch of subscribe": (bad) => bytes(5, [...text(1, good), ...number(3, 1), ...bytes(6, bad), ...number(7, 1)]),
  "the channel of unsubscribe": (bad) => bytes(6, bytes(1, [...prefix, ...bad])),
  "the channel of publish": (bad) => bytes(7, [...bytes(1, [...prefix, ...bad]), ...text(2, "1")]),
  "the channel of history": (bad) => bytes(10, [...bytes(1, [...prefix, ...bad]), ...number(7, 1)]),
  "the epoch of history": (bad) => bytes(10, [...text(1, good), ...number(7, 1), ...bytes(8, [...number(1, 1), ...bytes(2, bad)])]),
  "the method of rpc": (bad) => bytes(13, [...text(1, "1"), ...bytes(2, bad)]),
};

test("Protobuf: bytes that are not UTF-8 are error 107 wherever a name stands, ignored in name and version, and the connection goes on", async () => {
  const socket = new WebSocket(node.websocket, "centrifuge-protobuf");
  const closed = once(socket, "close").then(([code, reason]) => Promise.reject(new Error(`closed with ${code} ${reason}`)));
  closed.catch(() => {});
  const replies = [];
  let progress = () => {};
  socket.on("message", (data) => {
    for (const message of unframed(data)) {
      if (message.length === 0) socket.send(Buffer.from([0]));
      else replies.push(fields(message));
    }
    progress();
  });
  await Promise.race([once(socket, "open"), closed]);
  let id = 0;
  // Answers come in any order.
  async function call(...contents) {
    const ids = contents.map(() => ++id);
    socket.send(Buffer.from(contents.flatMap((content, index) => framed([...number(1, ids[index]), ...content]))));
    const answer = (wanted) => replies.find((reply) => reply.get(1) === wanted);
    while (!ids.every(answer)) await Promise.race([closed, new Promise((resolve) => (progress = resolve))]);
    return ids.map(answer);
  }
  const [connect] = await call(bytes(4, [...bytes(4, [0xff]), ...bytes(5, [0xed, 0xa0, 0xbd])]));
  assert.ok(connect.has(5), "no answer to connect");
  for (const [where, command] of Object.entries(binary))
    for (const [what, bad] of Object.entries(badBytes)) {
      const [refused, next] = await call(command(bad), bytes(10, text(1, good)));
      const error = refused.has(2) ? fields(refused.get(2)).get(1) : "none";
      assert.equal(error, 107, `${what} in ${where}`);
      assert.ok(next.has(11), `the command after ${what} in ${where}`);
    }
  const [subscribe] = await call(bytes(5, text(1, good)));
  assert.ok(subscribe.has(6), "no answer to the last subscribe");
  socket.terminate();
});
