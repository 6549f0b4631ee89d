// Subjects that lead to other topics, with the official SDK and a real Kafka: what is published to them, what is subscribed to there, and a reload.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { builds, connected, event, Publications, subscribed } from "./support/client.mjs";
import { createTopic } from "./support/kafka.mjs";
import { Node } from "./support/node.mjs";
import { after, before, describe, test } from "./support/test.mjs";

const run = Math.random().toString(36).slice(2, 8);
const [server, topic2, orders, ordersEu] = ["server", "topic2", "orders", "orders-eu"].map((name) => `${run}-${name}`);
const clients = [];
let node;

const blocks = `
[[route]]
subject = "/${server}/status2"
topic = "${topic2}"
key = "mykey"

[[route]]
subject = "/${orders}/{region}/new"
topic = "${orders}-{region}"
also = true

[[expose]]
subject = "/eu/{*id}"
topic = "${ordersEu}"
key = "{id}"
`;

before(async () => {
  await Promise.all([server, topic2, orders, ordersEu].map((topic) => createTopic(topic, 3)));
  node = await Node.start([server, topic2, orders, ordersEu], "", blocks);
});

after(async () => {
  clients.forEach((client) => client.disconnect());
  await Node.killAll();
});

for (const build of builds) {
  describe(`centrifuge, ${build.name}`, () => {
    async function client() {
      const client = build.client(node.websocket);
      clients.push(client);
      await connected(client);
      return client;
    }

    async function follow(client, channel) {
      const subscription = client.newSubscription(channel);
      const publications = new Publications(subscription, build.decode);
      await subscribed(subscription);
      return { subscription, publications };
    }

    test("a publish goes to the topic of its route and not to its own", async () => {
      const one = await client();
      const there = await follow(one, `/${topic2}/mykey`);
      const here = await follow(one, `/${server}/status2`);
      const data = { build: build.name, n: 1 };
      await one.publish(`/${server}/status2`, build.encode(data));
      await there.publications.count(1);
      assert.deepEqual(there.publications.values, [data]);
      assert.deepEqual(here.publications.values, []);
    });

    test("with `also` both topics have it before it is acknowledged", async () => {
      const one = await client();
      const own = await follow(one, `/${orders}/eu/new`);
      const other = await follow(one, `/${ordersEu}/eu/new`);
      for (let n = 0; n < 20; n++) await one.publish(`/${orders}/eu/new`, build.encode(n));
      for (const { publications } of [own, other]) {
        await publications.count(20);
        assert.deepEqual(publications.values, [...Array(20).keys()]);
      }
    });

    test("a topic that is not there refuses the publish before anything is written", async () => {
      const one = await client();
      const own = await follow(one, `/${orders}/mars/new`);
      await assert.rejects(one.publish(`/${orders}/mars/new`, build.encode(1)), (error) => error.code === 102 && error.message.includes(`${orders}-mars`));
      assert.deepEqual(own.publications.values, []);
    });

    test("an exposed subject has the records of another, also those that were missed", async () => {
      const [one, writer] = [await client(), await client()];
      const { subscription, publications } = await follow(one, `/eu/${build.name}/x`);
      await writer.publish(`/${ordersEu}/${build.name}/x`, build.encode(1));
      await publications.count(1);
      one.disconnect();
      for (const n of [2, 3]) await writer.publish(`/${ordersEu}/${build.name}/x`, build.encode(n));
      const back = event(subscription, "subscribed");
      one.connect();
      assert.equal((await back).recovered, true);
      await publications.count(3);
      assert.deepEqual(publications.values, [1, 2, 3]);
      const page = await subscription.history({ limit: 10 });
      assert.deepEqual(page.publications.map((publication) => build.decode(publication.data)), [1, 2, 3]);
    });
  });
}

test("a reload takes up other routes and exposures while clients stay", async () => {
  const one = builds[0].client(node.websocket);
  clients.push(one);
  await connected(one);
  const subscription = one.newSubscription("/eu/9");
  const publications = new Publications(subscription, (data) => data);
  await subscribed(subscription);
  const config = join(node.folder, "corespan.toml");
  const other = blocks.replace('subject = "/eu/{*id}"\ntopic = ', `subject = "/eu/{*id}"\ntopic = "${topic2}" # `).replace('key = "mykey"', 'key = "yourkey"');
  const again = event(subscription, "subscribed");
  const text = readFileSync(config, "utf8");
  assert.ok(text.includes(blocks));
  writeFileSync(config, text.replace(blocks, other));
  node.process.kill("SIGHUP");
  // Told to come back, the SDK has subscribed again, to the other topic.
  await again;
  await one.publish(`/${topic2}/9`, { other: true });
  await publications.count(1);
  assert.deepEqual(publications.values, [{ other: true }]);
  const there = one.newSubscription(`/${topic2}/yourkey`);
  const routed = new Publications(there, (data) => data);
  await subscribed(there);
  await one.publish(`/${server}/status2`, { n: 2 });
  await routed.count(1);
  assert.deepEqual(routed.values, [{ n: 2 }]);
  assert.ok(node.log().includes("route.1.key"), node.log());
});
