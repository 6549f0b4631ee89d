// What a user would write alone: Bun's WebSocket server, which is uWebSockets with its own topics, and kafkajs.
// Of Centrifuge's protocol in JSON it knows connect, subscribe and publications.
//
// bun server.js PORT BROKERS TOPIC. A plain GET is answered with 200 once the consumer has its partitions.
import { Kafka, logLevel } from "kafkajs";

const [port, brokers, topic] = process.argv.slice(2);
const OPENED = '{"id":1,"connect":{"client":"x","version":"x"}}\n{"id":2,"subscribe":{}}';
let ready = false;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  fetch(request, server) {
    if (server.upgrade(request)) return undefined;
    return new Response("", { status: ready ? 200 : 503 });
  },
  websocket: {
    idleTimeout: 0,
    // Who lags by 1 MiB is closed, as with Centrifugo's default.
    backpressureLimit: 1 << 20,
    closeOnBackpressureLimit: true,
    message(socket, text) {
      for (const line of String(text).split("\n")) {
        const channel = line.length > 2 && JSON.parse(line).subscribe?.channel;
        if (!channel) continue;
        socket.subscribe(channel);
        socket.send(OPENED);
      }
    },
  },
});

const kafka = new Kafka({ clientId: "compare", brokers: brokers.split(","), logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: `bun-${topic}`, maxWaitTimeInMs: 500, minBytes: 1 });
consumer.on(consumer.events.GROUP_JOIN, () => { ready = true; });
await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
await consumer.run({
  autoCommit: false,
  eachBatch: async ({ batch }) => {
    for (const { key, value } of batch.messages) {
      const channel = `/${topic}/${key}`;
      server.publish(channel, `{"push":{"channel":"${channel}","pub":{"data":${value}}}}`);
    }
  },
});
