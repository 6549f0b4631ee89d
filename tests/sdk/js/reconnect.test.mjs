// The frame with which a client comes back holds all its subscriptions. It follows from the limits of a node how large an honest one can be, and that
// much is read, however small a publish may be.
import assert from "node:assert/strict";
import { builds, connected } from "./support/client.mjs";
import { createTopic } from "./support/kafka.mjs";
import { Node } from "./support/node.mjs";
import { Proxy } from "./support/proxy.mjs";
import { after, before, test } from "./support/test.mjs";
import { Wire } from "./support/wire.mjs";

const run = Math.random().toString(36).slice(2, 8);
const topic = `vehicles-${run}`;
const LONG = "n".repeat(900);
let small, wide;
let subjects = 0;
const clients = [];
const freshSubjects = (count, suffix = "") => Array.from({ length: count }, () => `/${topic}/${++subjects}${suffix}`);

before(async () => {
  await createTopic(topic, 4);
  [small, wide] = await Promise.all([Node.start([topic], 'publish.bytes.max = "1KB"'), Node.start([topic], "client.subscriptions.max = 50000")]);
});

after(async () => {
  clients.forEach((client) => client.disconnect());
  Proxy.closeAll();
  Wire.closeAll();
  await Node.killAll();
});

// Every tenth subject gets two records, by way of the node itself.
const someOf = (names) => names.filter((_, index) => index % 10 === 0);

async function publish(node, names, values) {
  const wire = await Wire.open(node.websocket);
  for (const data of values)
    for (const reply of await wire.callAll(names.map((channel) => ({ publish: { channel, data } })))) assert.equal(reply.error, undefined);
  wire.close();
}

// Resolves when `done` has been called so often.
function counter(wanted, what, milliseconds = 40_000) {
  let count = 0;
  let resolve;
  const all = new Promise((resolved, reject) => {
    const timer = setTimeout(() => reject(new Error(`${count} of ${wanted} ${what} within ${milliseconds} ms`)), milliseconds);
    resolve = () => (clearTimeout(timer), resolved());
  });
  // Who fails before has its own error.
  all.catch(() => {});
  return { all, done: () => ++count === wanted && resolve() };
}

async function sdkComesBack(build, node, names) {
  const proxy = await Proxy.start(node.port);
  const client = build.client(proxy.websocket);
  clients.push(client);
  const ends = [];
  client.on("disconnected", ({ code, reason }) => ends.push(`${code} ${reason}`));
  let first = counter(names.length, "subscriptions");
  let back = null;
  const values = new Map(names.map((name) => [name, []]));
  const records = counter(someOf(names).length * 3, "records");
  for (const name of names) {
    const subscription = client.newSubscription(name);
    subscription.on("unsubscribed", ({ code, reason }) => ends.push(`${name}: ${code} ${reason}`));
    subscription.on("subscribed", (context) => {
      if (!back) return first.done();
      if (!context.recovered) ends.push(`${name} was not recovered`);
      back.done();
    });
    subscription.on("publication", ({ data }) => {
      values.get(name).push(build.decode(data));
      records.done();
    });
    subscription.subscribe();
  }
  await connected(client);
  await first.all;
  back = counter(names.length, "subscriptions after the cut");
  proxy.pull();
  await publish(node, someOf(names), [1, 2]);
  proxy.plug();
  await back.all;
  await publish(node, someOf(names), [3]);
  await records.all;
  assert.deepEqual(ends, []);
  for (const [index, name] of names.entries()) assert.deepEqual(values.get(name), index % 10 === 0 ? [1, 2, 3] : []);
  assert.equal(client.state, "connected");
  assert.equal(proxy.accepted, 2);
  client.disconnect();
  proxy.close();
}

for (const build of builds) {
  test(`centrifuge, ${build.name}: a thousand subscriptions come back where a publish may have 1 KB`, () => sdkComesBack(build, small, freshSubjects(1_000)));

  test(`centrifuge, ${build.name}: five thousand subscriptions with names of 900 bytes come back`, () => sdkComesBack(build, wide, freshSubjects(5_000, LONG)));
}

test("twenty thousand subscriptions come back in one frame with connect", async () => {
  const names = freshSubjects(20_000);
  const proxy = await Proxy.start(wide.port);
  const subscribeAll = (wire, options) =>
    wire.callAll([{ connect: {} }, ...names.map((channel, index) => ({ subscribe: { channel, flag: 1, ...options(index) } }))]);
  const wire = await Wire.bare(proxy.websocket);
  const [, ...held] = await subscribeAll(wire, () => ({}));
  proxy.pull();
  await wire.closed;
  await publish(wide, someOf(names), [1, 2]);
  proxy.plug();
  const pushes = [];
  const live = counter(someOf(names).length, "records");
  const again = await Wire.bare(proxy.websocket, (push) => {
    pushes.push(push);
    live.done();
  });
  const [connect, ...back] = await subscribeAll(again, (index) => ({ recover: true, offset: held[index].subscribe.offset, epoch: held[index].subscribe.epoch }));
  assert.equal(connect.error, undefined);
  const namesById = new Map();
  for (const [index, { error, subscribe }] of back.entries()) {
    assert.equal(error, undefined);
    assert.equal(subscribe.recovered, true);
    assert.deepEqual((subscribe.publications ?? []).map(({ data }) => data), index % 10 === 0 ? [1, 2] : []);
    namesById.set(subscribe.id, names[index]);
  }
  assert.equal(namesById.size, names.length);
  await publish(wide, someOf(names), [3]);
  await live.all;
  assert.deepEqual(pushes.map(({ id }) => namesById.get(id)).sort(), someOf(names).sort());
  assert.ok(pushes.every(({ pub }) => pub.data === 3));
  again.close();
  proxy.close();
});

test("one subscription more than the limit is refused, and the frame that holds it is read", async () => {
  const wire = await Wire.bare(small.websocket);
  const names = freshSubjects(1_001, LONG);
  const [, ...replies] = await wire.callAll([{ connect: {} }, ...names.map((channel) => ({ subscribe: { channel } }))]);
  assert.deepEqual(replies.map(({ error }) => error?.code ?? 0), [...Array(1_000).fill(0), 106]);
  wire.close();
});
