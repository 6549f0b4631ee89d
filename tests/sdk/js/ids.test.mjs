// Why numeric channel ids are granted in JSON only: what the JavaScript SDK does with them, shown by a server of four lines. When the Protobuf case
// fails, the SDK has been mended, and `ShardCore::subscribe` can grant ids in both.
import assert from "node:assert/strict";
import { once } from "node:events";
import { WebSocketServer } from "ws";
import { builds, connected, event, subscribed } from "./support/client.mjs";
import { bytes, framed, number, text } from "./support/protobuf.mjs";
import { test } from "./support/test.mjs";

const ID = 7;
const SUBJECT = "/vehicles/1";
// Answers to connect (1) and subscribe (2); a publication that names the subject by its id, then one by its name.
const answers = {
  JSON: [
    { id: 1, connect: { client: "c", version: "v" } },
    { id: 2, subscribe: { id: ID } },
    { push: { id: ID, pub: { data: 1, offset: 1 } } },
    { push: { channel: SUBJECT, pub: { data: 2, offset: 2 } } },
  ].map((reply) => JSON.stringify(reply)).join("\n"),
  Protobuf: Buffer.from(
    [
      [...number(1, 1), ...bytes(5, [...text(1, "c"), ...text(2, "v")])],
      [...number(1, 2), ...bytes(6, number(14, ID))],
      bytes(4, [...number(1, ID), ...bytes(4, [...text(4, "1"), ...number(6, 1)])]),
      bytes(4, [...text(2, SUBJECT), ...bytes(4, [...text(4, "2"), ...number(6, 2)])]),
    ].flatMap(framed),
  ),
};

for (const [build, arrives] of [[builds[0], [1, 2]], [builds[1], [2]]]) {
  test(`centrifuge, ${build.name}: of publications 1 by id and 2 by name arrive ${arrives.join(" and ")}`, async () => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: (offered) => [...offered][0] });
    await once(server, "listening");
    const client = build.client(`ws://127.0.0.1:${server.address().port}/`);
    const values = [];
    try {
      // The SDK sends connect and subscribe in its first message.
      server.on("connection", (socket) => socket.once("message", () => socket.send(answers[build.name])));
      const subscription = client.newSubscription(SUBJECT);
      subscription.on("publication", (publication) => values.push(build.decode(publication.data)));
      const last = event(subscription, "publication", ({ offset }) => Number(offset) === 2);
      await Promise.all([subscribed(subscription), connected(client), last]);
    } finally {
      client.disconnect();
      server.close();
    }
    assert.deepEqual(values, arrives);
  });
}
