// Leaving a subject and coming back at once, as React's strict mode makes every component do, while somebody publishes all the time. Releases differ:
// 5.4.0 and 5.7.4 take the answer to the first subscribe for the answer to the second, 5.8.0 waits for the second.
import assert from "node:assert/strict";
import WebSocket from "ws";
import { connected, releases, subscribed } from "./support/client.mjs";
import { createTopic } from "./support/kafka.mjs";
import { Node } from "./support/node.mjs";
import { after, before, describe, test } from "./support/test.mjs";
import { Wire } from "./support/wire.mjs";

const run = Math.random().toString(36).slice(2, 8);
const topic = `vehicles-${run}`;
let node;
let subjects = 0;
const clients = [];
const freshSubjects = (count) => Array.from({ length: count }, () => `/${topic}/${++subjects}/speed`);

before(async () => {
  await createTopic(topic, 4);
  node = await Node.start([topic], "client.subscriptions.max = 10000");
});

after(async () => {
  clients.forEach((client) => client.disconnect());
  Wire.closeAll();
  await Node.killAll();
});

// Publishes to every subject again and again, by a client of its own, while another one that never leaves writes down the offset of every record.
class Feed {
  static async start(subjects) {
    const feed = new Feed();
    feed.subjects = subjects;
    feed.offsets = new Map(subjects.map((subject) => [subject, []]));
    feed.last = new Set();
    feed.ended = new Promise((resolve) => (feed.end = resolve));
    feed.witness = await Wire.open(node.websocket, ({ channel, pub }) => {
      feed.offsets.get(channel).push(pub.offset);
      if (pub.data.last && feed.last.add(channel).size === subjects.length) feed.end();
    });
    for (const reply of await feed.witness.callAll(subjects.map((channel) => ({ subscribe: { channel } })))) assert.equal(reply.error, undefined);
    feed.publisher = await Wire.open(node.websocket);
    feed.stopped = false;
    // Three rounds are under way at any time, so there is none without a record on its way.
    feed.loops = [1, 2, 3].map(async () => {
      while (!feed.stopped) await feed.#round({});
    });
    await feed.#round({});
    return feed;
  }

  async #round(data) {
    for (const reply of await this.publisher.callAll(this.subjects.map((channel) => ({ publish: { channel, data } })))) assert.equal(reply.error, undefined);
  }

  // Stops with one more record for each subject, which is marked as the last.
  async stop() {
    this.stopped = true;
    await Promise.all(this.loops);
    await this.#round({ last: true });
    await this.ended;
    this.publisher.close();
    this.witness.close();
  }
}

// What one subscription has told. Records that come while it is not subscribed do not count: 5.8.0 hides them itself.
class Told {
  constructor(subscription, decode, progress) {
    this.subscribed = [];
    this.offsets = [];
    this.last = false;
    this.ended = [];
    subscription.on("subscribed", (context) => this.subscribed.push(context));
    subscription.on("unsubscribed", ({ code }) => this.ended.push(code));
    subscription.on("publication", (publication) => {
      if (subscription.state !== "subscribed") return;
      this.offsets.push(Number(publication.offset));
      this.last ||= decode(publication.data).last === true;
      progress();
    });
  }
}

async function until(condition, what) {
  const deadline = Date.now() + 25_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(what());
    // Every record looks again, and so does the clock, for the message.
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, 1_000);
      until.progress = () => (clearTimeout(timer), resolve());
    });
  }
}

// What went over the wire of a JSON client, for the message of a test that fails: `>` is from the client.
function traced() {
  const lines = [];
  const write = (way, data) => typeof data === "string" && lines.push(...data.split("\n").map((line) => `${way} ${line}`));
  class Traced extends WebSocket {
    constructor(...args) {
      super(...args);
      this.on("message", (data, isBinary) => isBinary || write("<", data.toString()));
    }

    send(data, ...more) {
      write(">", data);
      super.send(data, ...more);
    }
  }
  // Commands that name the subject, their answers, and its pushes: by name and by the number that an answer gave.
  const of = (subject) => {
    const quoted = JSON.stringify(subject);
    const ids = new Set();
    const numbers = new Set();
    return lines
      .filter((line) => {
        const { id, subscribe, push } = JSON.parse(line.slice(2));
        if (line.includes(quoted)) return ids.add(id);
        if (push) return numbers.has(push.id);
        if (!ids.has(id)) return false;
        if (subscribe?.id) numbers.add(subscribe.id);
        return true;
      })
      .slice(0, 12);
  };
  return { Traced, of };
}

const RECORDS = 10;
const ROUNDS = process.env.CORESPAN_TEST_LONG ? 12 : 4;

// `leave` gets all subscriptions, none of which has been asked for yet, and leaves them asked for.
async function everyRecordArrives(release, count, connectFirst, leave) {
  const names = freshSubjects(count);
  const feed = await Feed.start(names);
  const trace = traced();
  const client = release.client(node.websocket, { websocket: trace.Traced });
  clients.push(client);
  if (connectFirst) await connected(client);
  const subscriptions = names.map((name) => client.newSubscription(name));
  const told = subscriptions.map((subscription) => new Told(subscription, release.decode, () => until.progress?.()));
  await leave(subscriptions);
  if (!connectFirst) await connected(client);
  await until(
    () => told.every(({ offsets }) => offsets.length >= RECORDS),
    () => `${told.filter(({ offsets }) => offsets.length < RECORDS).length} of ${count} subjects got fewer than ${RECORDS} records; states: ${[...new Set(subscriptions.map(({ state }) => state))]}`,
  );
  await feed.stop();
  await until(
    () => told.every(({ last }) => last),
    () => `${told.filter(({ last }) => !last).length} of ${count} subjects did not get the last record`,
  );
  const faults = [];
  for (const [index, { subscribed, offsets }] of told.entries()) {
    assert.equal(subscriptions[index].state, "subscribed");
    assert.ok(subscribed.length > 0);
    for (const context of subscribed.slice(1)) assert.ok(context.recovered, `a second subscription without recovery: ${JSON.stringify(context)}`);
    const position = Number(subscribed[0].streamPosition.offset);
    const wanted = feed.offsets.get(names[index]).filter((offset) => offset > position);
    const got = offsets.filter((offset) => offset > position);
    if (wanted.join() === got.join()) continue;
    const missing = wanted.filter((offset) => !got.includes(offset));
    const doubled = got.filter((offset, at) => got.indexOf(offset) !== at);
    faults.push({ subject: names[index], position, missing, doubled, frames: trace.of(names[index]) });
  }
  const report = faults.slice(0, 2).map((fault) => JSON.stringify(fault, null, 1)).join("\n");
  assert.equal(faults.length, 0, `${faults.length} of ${count} subjects with records missing, doubled or out of order:\n${report}`);
  assert.equal(client.state, "connected");
  client.disconnect();
}

const nextTurn = () => new Promise(setImmediate);
const timer = () => new Promise((resolve) => setTimeout(resolve, 0));
const subscribeAll = (all) => all.forEach((subscription) => subscription.subscribe());
const unsubscribeAll = (all) => all.forEach((subscription) => subscription.unsubscribe());
const again = (all) => (unsubscribeAll(all), subscribeAll(all));

const ways = [
  ["subscribe, unsubscribe and subscribe in one turn", 50, true, (all) => all.forEach((one) => (one.subscribe(), one.unsubscribe(), one.subscribe()))],
  ["subscribe, unsubscribe and subscribe before connect", 50, false, (all) => all.forEach((one) => (one.subscribe(), one.unsubscribe(), one.subscribe()))],
  ["unsubscribe and subscribe one turn after subscribe", 100, true, async (all) => (subscribeAll(all), await nextTurn(), again(all))],
  ["unsubscribe and subscribe a timer after subscribe", 100, true, async (all) => (subscribeAll(all), await timer(), again(all))],
  ["subscribe one turn after unsubscribe", 100, true, async (all) => (subscribeAll(all), unsubscribeAll(all), await nextTurn(), subscribeAll(all))],
  ["a turn between subscribe, unsubscribe and subscribe", 100, true, async (all) => (subscribeAll(all), await nextTurn(), unsubscribeAll(all), await nextTurn(), subscribeAll(all))],
  ["unsubscribe and subscribe once subscribed", 100, true, async (all) => (await Promise.all(all.map((one) => subscribed(one))), again(all))],
];

for (const release of releases) {
  describe(`centrifuge ${release.name}`, () => {
    for (const [way, count, connectFirst, leave] of ways)
      test(`no record is lost or doubled after: ${way}, ${count} subjects`, async () => {
        // What is sought hides between two turns of a node, so it is sought more than once.
        for (let round = 1; round <= ROUNDS; round++) await everyRecordArrives(release, count, connectFirst, leave);
      });

    test("after an unsubscribe that was confirmed, a later subscribe gets what follows and what it missed, twice", async () => {
      const names = freshSubjects(50);
      const client = release.client(node.websocket);
      clients.push(client);
      await connected(client);
      const subscriptions = names.map((name) => client.newSubscription(name));
      const values = names.map(() => []);
      let count = 0;
      subscriptions.forEach((subscription, index) =>
        subscription.on("publication", ({ data }) => {
          values[index].push(release.decode(data));
          count += 1;
          until.progress?.();
        }),
      );
      const publish = async (value) => {
        for (const name of names) await client.publish(name, release.encode(value));
      };
      const arrived = (wanted) => until(() => count >= wanted * names.length, () => `${count} of ${wanted * names.length} records`);
      await Promise.all(subscriptions.map((subscription) => subscribed(subscription)));
      await publish(0);
      await arrived(1);
      for (const round of [1, 2]) {
        unsubscribeAll(subscriptions);
        // The answer to a later command says that all of them have been done.
        await client.history(names.at(-1), { limit: 0 });
        await publish(round * 2 - 1);
        assert.equal(count, (round * 2 - 1) * names.length);
        const contexts = await Promise.all(subscriptions.map((subscription) => subscribed(subscription)));
        for (const context of contexts) assert.equal(context.recovered, true);
        // The SDK's own field.
        if (release.ids) for (const subscription of subscriptions) assert.ok(subscription._id > 0);
        await publish(round * 2);
        await arrived(round * 2 + 1);
      }
      for (const list of values) assert.deepEqual(list, [0, 1, 2, 3, 4]);
      client.disconnect();
    });
  });
}
