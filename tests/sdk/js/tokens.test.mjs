// Tokens with the official SDK: who is let in, what is refused, refresh of connections and subscriptions, revocation, and what is read again.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { builds, connected, event, Publications, subscribed } from "./support/client.mjs";
import { ConsoleProducer, createTopic } from "./support/kafka.mjs";
import { Node } from "./support/node.mjs";
import { after, before, describe, test } from "./support/test.mjs";

const run = Math.random().toString(36).slice(2, 8);
const topic = `tokens-${run}`;
const secret = "a secret of the tests, of 32 bytes or more";
const folder = mkdtempSync(join(tmpdir(), "corespan-tokens-"));
const revoked = join(folder, "revoked");
const keys = join(folder, "secret");
const clients = [];
let node, producer;

// What is written is whole when it is seen.
function write(path, text) {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

const encoded = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const now = () => Math.floor(Date.now() / 1000);

function token(claims, key = secret) {
  const message = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded({ exp: now() + 600, ...claims })}`;
  return `${message}.${createHmac("sha256", key).update(message).digest("base64url")}`;
}

const everything = { all: [`/${topic}/*`, `/${topic}`] };

before(async () => {
  await createTopic(topic, 2);
  write(revoked, "# nobody\n");
  write(keys, secret);
  node = await Node.start(
    [topic],
    `entitlement.type = "jwt"
entitlement.jwt.hmac.path = "${keys}"
entitlement.jwt.leeway = 0
entitlement.revoked.path = "${revoked}"`,
  );
  producer = new ConsoleProducer(topic);
});

after(async () => {
  clients.forEach((client) => client.disconnect());
  await Node.killAll();
  await producer?.close();
});

for (const build of builds) {
  describe(`centrifuge, ${build.name}`, () => {
    function client(options) {
      const client = build.client(node.websocket, options);
      clients.push(client);
      return client;
    }

    test("without a token, and with one that nobody has signed, the SDK is sent away for good", async () => {
      for (const options of [{}, { token: token({ sub: "ada" }, "another secret of the tests, of 32 bytes") }]) {
        const refused = client(options);
        const gone = event(refused, "disconnected");
        refused.connect();
        assert.equal((await gone).code, 101);
      }
    });

    test("permissions decide subscribe, publish and history", async () => {
      const key = `p-${build.name}`;
      const allowed = client({ token: token({ sub: "ada", permissions: { sub: [`/${topic}/${key}`], pub: [`/${topic}/${key}`] } }) });
      await connected(allowed);
      const subscription = allowed.newSubscription(`/${topic}/${key}`);
      const publications = new Publications(subscription, build.decode);
      await subscribed(subscription);
      await subscription.publish(build.encode({ n: 1 }));
      await publications.count(1);
      await subscription.history({ limit: 1 });
      const denied = allowed.newSubscription(`/${topic}/other`);
      const ended = event(denied, "unsubscribed");
      denied.subscribe();
      assert.equal((await ended).code, 103);
      for (const ask of [() => allowed.publish(`/${topic}/other`, build.encode({})), () => allowed.history(`/${topic}/other`, { limit: 1 })]) {
        await assert.rejects(ask(), { code: 103 });
      }
    });

    test("the SDK refreshes its token before it ends, and nothing is lost", async () => {
      const key = `r-${build.name}`;
      let asked = 0;
      // A quarter of its time is kept for the next one: two seconds, for a busy machine.
      const short = () => token({ sub: "ada", exp: now() + 10, permissions: everything });
      const refreshed = client({
        token: short(),
        getToken: async () => {
          asked += 1;
          return short();
        },
      });
      await connected(refreshed);
      const subscription = refreshed.newSubscription(`/${topic}/${key}`);
      const publications = new Publications(subscription, build.decode);
      await subscribed(subscription);
      let left = 0;
      refreshed.on("connecting", () => (left += 1));
      const until = Date.now() + 12_000;
      for (let n = 1; Date.now() < until; n++) {
        producer.send(key, JSON.stringify({ n }));
        await publications.count(n);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      assert.ok(asked >= 1, `${asked} refreshes`);
      assert.equal(left, 0, "the connection was never left");
      assert.deepEqual(publications.values.map((value) => value.n), publications.values.map((_, index) => index + 1));
    });

    test("a token that ends without a new one ends the connection, and an ended one is refused with 109", async () => {
      let asked = 0;
      let left = false;
      const ending = client({
        token: token({ sub: "ada", exp: now() + 5, permissions: everything }),
        getToken: async () => {
          asked += 1;
          // The first answer comes too late: the connection has ended.
          if (asked === 1 && !left) await event(ending, "connecting");
          return token({ sub: "ada", permissions: everything });
        },
      });
      await connected(ending);
      ending.once("connecting", () => (left = true));
      const ended = await event(ending, "connecting");
      assert.equal(ended.code, 3005);
      await event(ending, "connected");
    });

    test("a token for one channel subscribes to it alone, and sub_refresh keeps it", async () => {
      const key = `s-${build.name}`;
      const channel = `/${topic}/${key}`;
      const holder = client({ token: token({ sub: "ada" }) });
      await connected(holder);
      let asked = 0;
      const subscription = holder.newSubscription(channel, {
        getToken: async () => {
          asked += 1;
          return token({ sub: "ada", channel, exp: now() + 10 });
        },
      });
      const publications = new Publications(subscription, build.decode);
      await subscribed(subscription);
      const until = Date.now() + 12_000;
      for (let n = 1; Date.now() < until; n++) {
        producer.send(key, JSON.stringify({ n }));
        await publications.count(n);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      assert.ok(asked >= 2, `${asked} tokens`);
      assert.deepEqual(publications.said.filter((said) => said.event !== "subscribed"), [{ event: "subscribing", code: 0, reason: "subscribe called", recovered: undefined }]);
      const other = holder.newSubscription(`/${topic}/other-${build.name}`, { getToken: async () => token({ sub: "ada", channel }) });
      const ended = event(other, "unsubscribed");
      other.subscribe();
      assert.equal((await ended).code, 103);
    });

    test("who is revoked is sent away within a second, on every shard", async () => {
      const jti = `j-${build.name}`;
      const all = await Promise.all(
        Array.from({ length: 8 }, async () => {
          const one = client({ token: token({ sub: "eve", jti, permissions: everything }) });
          await connected(one);
          return one;
        }),
      );
      const gone = all.map((one) => event(one, "disconnected"));
      const began = Date.now();
      write(revoked, `jti ${jti}\n`);
      const codes = (await Promise.all(gone)).map((context) => context.code);
      assert.deepEqual(codes, codes.map(() => 3500));
      assert.ok(Date.now() - began < 5_000, "a second, and what a busy machine takes");
    });
  });
}

test("keys are read again when their file changes, and a bad file changes nothing", async () => {
  const build = builds[0];
  const newer = "the next secret of the tests, of 32 bytes or more";
  const tries = async (key) => {
    const one = build.client(node.websocket, { token: token({ sub: "ada" }, key) });
    const outcome = new Promise((resolve) => {
      one.once("connected", () => resolve("in"));
      one.once("disconnected", () => resolve("out"));
    });
    one.connect();
    const said = await outcome;
    one.disconnect();
    return said;
  };
  const becomes = async (key, wanted) => {
    const deadline = Date.now() + 15_000;
    while ((await tries(key)) !== wanted) assert.ok(Date.now() < deadline, `${wanted} within 15 s`);
  };
  write(keys, newer);
  await becomes(newer, "in");
  assert.equal(await tries(secret), "out");
  write(keys, "short");
  const deadline = Date.now() + 15_000;
  while (!/keys stay as they were/.test(node.log())) {
    assert.ok(Date.now() < deadline, "the log names the bad file");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(await tries(newer), "in");
  assert.ok(!node.log().includes(newer) && !node.log().includes(secret), "no key is in the log");
});
