// A burst that is faster than any client: the official SDK, reading as it does, has all of it, in order, without being sent away.
import assert from "node:assert/strict";
import { builds, connected, Publications, subscribed } from "./support/client.mjs";
import { ConsoleProducer, createTopic } from "./support/kafka.mjs";
import { Node } from "./support/node.mjs";
import { after, before, describe, test } from "./support/test.mjs";

const run = Math.random().toString(36).slice(2, 8);
const topic = `bursts-${run}`; // four partitions
const pad = "x".repeat(980);
let node, producer;
let subjects = 0;
const clients = [];

before(async () => {
  await createTopic(topic, 4);
  node = await Node.start([topic]);
  producer = new ConsoleProducer(topic);
});

after(async () => {
  clients.forEach((client) => client.disconnect());
  await Node.killAll();
  await producer?.close();
});

for (const build of builds) {
  describe(`centrifuge, ${build.name}`, () => {
    async function follow(subject) {
      const client = build.client(node.websocket, {});
      clients.push(client);
      await connected(client);
      const subscription = client.newSubscription(subject);
      const publications = new Publications(subscription, build.decode);
      await subscribed(subscription);
      const sentAway = [];
      subscription.on("subscribing", (context) => sentAway.push(context));
      return { publications, sentAway };
    }

    for (const count of [3_000, 5_000]) {
      test(`${count} records of a kilobyte of one key arrive in order`, async () => {
        const key = `${++subjects}`;
        const { publications, sentAway } = await follow(`/${topic}/${key}`);
        for (let n = 1; n <= count; n++) producer.send(key, JSON.stringify({ n, pad }));
        await publications.count(count, 40_000);
        assert.deepEqual(publications.values.map((value) => value.n), Array.from({ length: count }, (_, index) => index + 1));
        assert.deepEqual(sentAway, []);
      });
    }

    test("1,500 records of a kilobyte without a key, over four partitions, all arrive", async () => {
      const { publications, sentAway } = await follow(`/${topic}`);
      for (let n = 1; n <= 1_500; n++) producer.send(null, JSON.stringify({ n, build: build.name, pad }));
      await publications.count(1_500, 40_000);
      const numbers = publications.values.filter((value) => value.build === build.name).map((value) => value.n);
      assert.deepEqual(numbers.sort((one, two) => one - two), Array.from({ length: 1_500 }, (_, index) => index + 1));
      assert.deepEqual(sentAway, []);
    });
  });
}
