// The official JavaScript SDK, unchanged, in its JSON and its Protobuf build, against corespan on Apache Kafka.
import assert from "node:assert/strict";
import { builds, connected, event, Publications, subscribed } from "./support/client.mjs";
import { ConsoleProducer, createTopic } from "./support/kafka.mjs";
import { Node } from "./support/node.mjs";
import { Proxy } from "./support/proxy.mjs";
import { after, before, describe, test } from "./support/test.mjs";

const run = Math.random().toString(36).slice(2, 8);
const topic = `vehicles-${run}`; // four partitions
const single = `alerts-${run}`; // one partition: records without a key are recoverable
const unserved = `private-${run}`; // exists in Kafka, not in the configuration
const topics = [topic, single];

let node, other, producer, singleProducer;
const clients = [];

// A subject of its own for every test, so that none sees another's records.
let subjects = 0;
const freshKey = () => `${++subjects}/speed`;

before(async () => {
  await Promise.all([createTopic(topic, 4), createTopic(single, 1), createTopic(unserved, 1)]);
  [node, other] = await Promise.all([Node.start(topics), Node.start(topics)]);
  producer = new ConsoleProducer(topic);
  singleProducer = new ConsoleProducer(single);
});

after(async () => {
  clients.forEach((client) => client.disconnect());
  Proxy.closeAll();
  await Node.killAll();
  await Promise.all([producer?.close(), singleProducer?.close()]);
});

for (const build of builds) {
  async function connect(endpoint = node.websocket, options = {}) {
    const client = build.client(endpoint, options);
    clients.push(client);
    const context = await connected(client);
    return { client, context };
  }

  async function subscribe(client, subject, options = {}) {
    const subscription = client.newSubscription(subject, { minResubscribeDelay: 50, maxResubscribeDelay: 500, ...options });
    const publications = new Publications(subscription, build.decode);
    const context = await subscribed(subscription);
    return { subscription, publications, context };
  }

  const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => ({ n: from + index }));

  async function refused(call, code) {
    await assert.rejects(call, (error) => {
      assert.equal(error.code, code, JSON.stringify(error));
      assert.ok(error.message.length > 0);
      return true;
    });
  }

  describe(`centrifuge, ${build.name}`, () => {
    test("connects and is given an id", async () => {
      const { client, context } = await connect();
      assert.ok(context.client.length > 0);
      assert.equal(context.transport, "websocket");
      assert.equal(client.state, "connected");
    });

    test("pushes name their subject by a number where this SDK can read it", async () => {
      const { client } = await connect();
      const { subscription } = await subscribe(client, `/${topic}/${freshKey()}`);
      // The SDK's own field; see ids.test.mjs.
      assert.equal(Number(subscription._id) > 0, build.name === "JSON");
    });

    test("records of Kafka arrive in order with offsets and headers", async () => {
      const key = freshKey();
      const { client } = await connect();
      const { publications, context } = await subscribe(client, `/${topic}/${key}`);
      assert.equal(context.recoverable, true);
      assert.ok(context.streamPosition.epoch.length > 0);
      for (const value of numbers(1, 100)) producer.send(key, JSON.stringify(value), { unit: "km/h", n: `${value.n}` });
      await publications.count(100);
      assert.deepEqual(publications.values, numbers(1, 100));
      assert.deepEqual(publications.list[41].tags, { unit: "km/h", n: "42" });
      const offsets = publications.list.map((publication) => publication.offset);
      assert.deepEqual(offsets, [...offsets].sort((a, b) => a - b));
      assert.equal(new Set(offsets).size, 100);
      assert.ok(offsets[0] > context.streamPosition.offset);
    });

    test("a publish is acknowledged, reaches subscribers on both nodes and the history", async () => {
      const subject = `/${topic}/${freshKey()}`;
      const { client } = await connect();
      const { client: far } = await connect(other.websocket);
      const [near, distant] = await Promise.all([subscribe(client, subject), subscribe(far, subject)]);
      for (const value of numbers(1, 20)) assert.deepEqual(await near.subscription.publish(build.encode(value)), {});
      await Promise.all([near.publications.count(20), distant.publications.count(20)]);
      assert.deepEqual(near.publications.values, numbers(1, 20));
      assert.deepEqual(distant.publications.values, numbers(1, 20));
      assert.deepEqual(
        distant.publications.list.map((publication) => publication.offset),
        near.publications.list.map((publication) => publication.offset),
      );
      const history = await near.subscription.history({ limit: 20 });
      assert.deepEqual(history.publications.map((publication) => build.decode(publication.data)), numbers(1, 20));
    });

    test("history pages from a position, backwards, and tells the position alone", async () => {
      const key = freshKey();
      const { client } = await connect();
      const { subscription, publications } = await subscribe(client, `/${topic}/${key}`);
      for (const value of numbers(1, 10)) producer.send(key, JSON.stringify(value));
      const list = await publications.count(10);
      const values = (result) => result.publications.map((publication) => build.decode(publication.data).n);

      const position = await subscription.history({ limit: 0 });
      assert.deepEqual(values(position), []);
      assert.ok(position.offset >= list[9].offset);
      assert.ok(position.epoch.length > 0);
      const { epoch } = position;
      assert.deepEqual(values(await subscription.history({ limit: 3, since: { offset: list[3].offset, epoch } })), [5, 6, 7]);
      assert.deepEqual(values(await subscription.history({ limit: 100, since: { offset: list[7].offset, epoch } })), [9, 10]);
      assert.deepEqual(values(await subscription.history({ limit: 4, reverse: true })), [10, 9, 8, 7]);
      assert.deepEqual(values(await client.history(`/${topic}/${key}`, { limit: -1 })), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
      await refused(subscription.history({ limit: 3, since: { offset: list[3].offset, epoch: "of-another-log" } }), 112);
    });

    test("nothing is lost or doubled when the socket is cut while records continue", async () => {
      const key = freshKey();
      const proxy = await Proxy.start(node.port);
      const { client } = await connect(proxy.websocket);
      const { subscription, publications } = await subscribe(client, `/${topic}/${key}`);
      let sent = 0;
      const send = (count) => {
        for (const end = sent + count; sent < end; ) producer.send(key, JSON.stringify({ n: ++sent }));
      };
      for (let round = 1; round <= 4; round++) {
        send(100);
        const back = event(subscription, "subscribed");
        proxy.cut();
        // Records that nobody hears at the moment they are made.
        send(50);
        const context = await back;
        assert.equal(context.wasRecovering, true);
        assert.equal(context.recovered, true);
      }
      await publications.count(sent);
      send(1);
      await publications.count(sent);
      assert.deepEqual(publications.values, numbers(1, sent));
      assert.ok(proxy.accepted >= 5, `${proxy.accepted} connections`);
      client.disconnect();
      proxy.close();
    });

    test("a client that loses its node recovers on another one", async () => {
      const key = freshKey();
      const first = await Node.start(topics);
      const proxy = await Proxy.start(first.port);
      const { client } = await connect(proxy.websocket);
      const { subscription, publications } = await subscribe(client, `/${topic}/${key}`);
      for (const value of numbers(1, 50)) producer.send(key, JSON.stringify(value));
      await publications.count(50);
      const back = event(subscription, "subscribed");
      proxy.targetPort = other.port;
      await first.kill();
      for (const value of numbers(51, 100)) producer.send(key, JSON.stringify(value));
      assert.equal((await back).recovered, true);
      await publications.count(100);
      assert.deepEqual(publications.values, numbers(1, 100));
      client.disconnect();
      proxy.close();
    });

    test("an application's own position starts a subscription, on any node", async () => {
      const key = freshKey();
      const { client } = await connect();
      const { publications, context } = await subscribe(client, `/${topic}/${key}`);
      for (const value of numbers(1, 10)) producer.send(key, JSON.stringify(value));
      const list = await publications.count(10);
      const since = { offset: list[5].offset, epoch: context.streamPosition.epoch };
      const { client: late } = await connect(other.websocket);
      const resumed = await subscribe(late, `/${topic}/${key}`, { since });
      assert.equal(resumed.context.recovered, true);
      await resumed.publications.count(4);
      assert.deepEqual(resumed.publications.values, numbers(7, 10));
    });

    test("a position of another log is not recovered, and the newest record comes in its place", async () => {
      const key = freshKey();
      const { client } = await connect();
      const { publications } = await subscribe(client, `/${topic}/${key}`);
      for (const value of numbers(1, 5)) producer.send(key, JSON.stringify(value));
      await publications.count(5);
      const { client: late } = await connect();
      const resumed = await subscribe(late, `/${topic}/${key}`, { since: { offset: 1, epoch: "of-another-log" } });
      assert.equal(resumed.context.wasRecovering, true);
      assert.equal(resumed.context.recovered, false);
      await resumed.publications.count(1);
      assert.deepEqual(resumed.publications.values, [{ n: 5 }]);
    });

    test("a snapshot brings the newest record, a history request the last ones, then live records follow", async () => {
      const key = freshKey();
      const { client } = await connect();
      const live = await subscribe(client, `/${topic}/${key}`);
      for (const value of numbers(1, 5)) producer.send(key, JSON.stringify(value));
      await live.publications.count(5);
      const { client: second } = await connect();
      const { client: third } = await connect();
      const data = (wish) => ({ data: build.encode(wish) });
      const snapshot = await subscribe(second, `/${topic}/${key}`, data({ snapshot: true }));
      await snapshot.publications.count(1);
      const history = await subscribe(third, `/${topic}/${key}`, data({ history: 3 }));
      producer.send(key, JSON.stringify({ n: 6 }));
      await Promise.all([snapshot.publications.count(2), history.publications.count(4)]);
      assert.deepEqual(snapshot.publications.values, numbers(5, 6));
      assert.deepEqual(history.publications.values, numbers(3, 6));
    });

    test("a tombstone is told by its tag", async () => {
      const key = freshKey();
      const { client } = await connect();
      const { publications } = await subscribe(client, `/${topic}/${key}`);
      producer.send(key, JSON.stringify({ n: 1 }));
      producer.send(key, null);
      const list = await publications.count(2);
      assert.equal(list[0].tags?.["corespan.removed"], undefined);
      assert.equal(list[1].tags["corespan.removed"], "true");
      assert.equal(list[1].value, null);
    });

    test("records without a key belong to the topic's own subject", async () => {
      const { client } = await connect();
      const { subscription, publications, context } = await subscribe(client, `/${single}`);
      assert.equal(context.recoverable, true);
      singleProducer.send(null, JSON.stringify({ n: 1 }));
      await publications.count(1);
      await subscription.publish(build.encode({ n: 2 }));
      await publications.count(2);
      assert.deepEqual(publications.values, numbers(1, 2));
      const spread = await subscribe(client, `/${topic}`);
      assert.equal(spread.context.recoverable, false);
    });

    test("errors carry their codes", async () => {
      const { client } = await connect();
      const refusedSubscribe = (subject, code) => refused(subscribed(client.newSubscription(subject)), code);
      await refusedSubscribe(`/nowhere-${run}/1`, 102);
      await refusedSubscribe(`/${unserved}/1`, 102);
      for (const subject of ["vehicles", "/", "//1", `/${topic}/`, `/${topic}//1`, "/not a topic/1", `/${topic}/${"k".repeat(2000)}`])
        await refusedSubscribe(subject, 107);
      const data = build.encode({ n: 1 });
      await refused(client.publish(`/nowhere-${run}/1`, data), 102);
      await refused(client.publish(`/${topic}//1`, data), 107);
      await refused(client.publish(`/${topic}/1`, build.encode("x".repeat(1_500_000))), 106);
      await refused(client.rpc("no.such.method", data), 104);
      await refused(client.presence(`/${topic}/1`), 108);
      await refused(client.presenceStats(`/${topic}/1`), 108);
      await refused(client.history(`/nowhere-${run}/1`, { limit: 1 }), 102);
      // The connection is none the worse for it, and a topic that is not consumed can be published to.
      assert.deepEqual(await client.publish(`/${unserved}/1`, data), {});
      assert.equal(client.state, "connected");
    });

    test("commands in one frame are answered each", async () => {
      const { client } = await connect();
      const keys = Array.from({ length: 20 }, freshKey);
      client.startBatching();
      const subscriptions = keys.map((key) => subscribe(client, `/${topic}/${key}`));
      const answers = keys.flatMap((key) => [client.publish(`/${topic}/${key}`, build.encode({ key })), client.history(`/${topic}/${key}`, { limit: 1 })]);
      client.stopBatching();
      await Promise.all(answers);
      // Nobody waited for the answer to a subscribe before publishing: a record that was stored first is before the subscription's position.
      for (const [index, subscribing] of subscriptions.entries()) {
        const { publications, context } = await subscribing;
        let record;
        while (!record) [record] = (await client.history(`/${topic}/${keys[index]}`, { limit: 1, reverse: true })).publications;
        const isDue = record.offset > context.streamPosition.offset;
        if (isDue) await publications.count(1);
        assert.deepEqual(publications.values, isDue ? [{ key: keys[index] }] : []);
      }
    });

    test("a thousand subscriptions of one client each get their own records", async () => {
      const { client } = await connect();
      const keys = Array.from({ length: 1000 }, freshKey);
      const all = await Promise.all(keys.map((key) => subscribe(client, `/${topic}/${key}`)));
      for (const n of [1, 2]) for (const key of keys) producer.send(key, JSON.stringify({ key, n }));
      await Promise.all(all.map(({ publications }) => publications.count(2)));
      for (const [index, { publications }] of all.entries())
        assert.deepEqual(publications.values, [1, 2].map((n) => ({ key: keys[index], n })));
    });

    test("unsubscribe ends the stream and a later subscribe goes on where the SDK left off", async () => {
      const key = freshKey();
      const { client } = await connect();
      const gone = await subscribe(client, `/${topic}/${key}`);
      const { client: witness } = await connect();
      const seen = await subscribe(witness, `/${topic}/${key}`);
      gone.subscription.unsubscribe();
      // The answer to a later command says that the unsubscribe has been done.
      await client.history(`/${topic}/${key}`, { limit: 0 });
      await client.publish(`/${topic}/${key}`, build.encode({ n: 1 }));
      await seen.publications.count(1);
      assert.deepEqual(gone.publications.values, []);
      await subscribed(gone.subscription);
      await client.publish(`/${topic}/${key}`, build.encode({ n: 2 }));
      await gone.publications.count(2);
      assert.deepEqual(gone.publications.values, numbers(1, 2));
    });

    test("a node that is stopped tells its clients, answers every publish and exits with 0", async () => {
      const stopping = await Node.start(topics);
      const { client } = await connect(stopping.websocket);
      const subject = `/${topic}/${freshKey()}`;
      const { client: witness } = await connect();
      const { publications } = await subscribe(witness, subject);
      const moving = event(client, "connecting");
      const answers = numbers(1, 200).map((value) => client.publish(subject, build.encode(value)).then(() => value, () => null));
      // One answered publish shows that the frame with all of them is on the node.
      await Promise.race(answers);
      const exit = stopping.terminate();
      assert.equal((await moving).code, 3001);
      client.disconnect();
      const acknowledged = (await Promise.all(answers)).filter((value) => value !== null);
      assert.equal(await exit, 0, stopping.log());
      await publications.count(acknowledged.length);
      for (const value of acknowledged) assert.ok(publications.values.some(({ n }) => n === value.n), `acknowledged and not in Kafka: ${value.n}`);
      await stopping.kill();
    });
  });
}

test("a value reads alike in both builds, whatever it is", async () => {
  const [json, protobuf] = builds;
  const cases = [
    ['{"a": 1}', { a: 1 }],
    ['{\n  "a":\n  [1,\r\n 2]}', { a: [1, 2] }],
    ['"line\\nbreak"', "line\nbreak"],
    ["plain text", "plain text"],
    ["two\nlines", "two\nlines"],
    ["12", 12],
    ["null", null],
    ["", ""],
    ["{broken", "{broken"],
    ["grüße 🚗", "grüße 🚗"],
    [Uint8Array.of(0xff, 0x00, 0x80), { base64: "/wCA" }],
  ];
  const subject = `/${topic}/${freshKey()}`;
  const writer = protobuf.client(node.websocket);
  const reader = json.client(node.websocket);
  clients.push(writer, reader);
  await Promise.all([connected(writer), connected(reader)]);
  const asJson = reader.newSubscription(subject);
  const asBytes = writer.newSubscription(subject);
  const jsonPublications = new Publications(asJson, (data) => data);
  const bytePublications = new Publications(asBytes, (data) => Buffer.from(data).toString("latin1"));
  await Promise.all([subscribed(asJson), subscribed(asBytes)]);
  const bytes = (value) => (typeof value === "string" ? new TextEncoder().encode(value) : value);
  for (const [value] of cases) await writer.publish(subject, bytes(value));
  await Promise.all([jsonPublications.count(cases.length), bytePublications.count(cases.length)]);
  assert.deepEqual(jsonPublications.values, cases.map(([, seen]) => seen));
  assert.deepEqual(bytePublications.values, cases.map(([value]) => Buffer.from(bytes(value)).toString("latin1")));
});
