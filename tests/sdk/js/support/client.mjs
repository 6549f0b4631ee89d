// The releases and builds of the `centrifuge` package under test, and how a test waits for what they tell.
import { Centrifuge as JsonClient } from "centrifuge";
import { Centrifuge as JsonClient540 } from "centrifuge-5.4.0";
import { Centrifuge as JsonClient574 } from "centrifuge-5.7.4";
import { Centrifuge as ProtobufClient } from "centrifuge/build/protobuf";
import WebSocket from "ws";

const options = { websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 200 };

// Record values differ: JSON clients see them as JSON, Protobuf clients as bytes. `text` and `value` translate.
export const builds = [
  {
    name: "JSON",
    client: (endpoint, more = {}) => new JsonClient(endpoint, { ...options, ...more }),
    encode: (value) => value,
    decode: (data) => data,
  },
  {
    name: "Protobuf",
    client: (endpoint, more = {}) => new ProtobufClient(endpoint, { ...options, ...more }),
    encode: (value) => new TextEncoder().encode(JSON.stringify(value)),
    decode: (data) => (data.length === 0 ? null : JSON.parse(new TextDecoder().decode(data))),
  },
];

// Older releases differ in what they do with answers and pushes of a subscription that they have left, and 5.4.0 knows no numeric ids.
export const releases = [
  { ...builds[0], name: "5.4.0, JSON", ids: false, client: (endpoint, more = {}) => new JsonClient540(endpoint, { ...options, ...more }) },
  { ...builds[0], name: "5.7.4, JSON", ids: true, client: (endpoint, more = {}) => new JsonClient574(endpoint, { ...options, ...more }) },
  { ...builds[0], name: "5.8.0, JSON", ids: true },
  { ...builds[1], name: "5.8.0, Protobuf", ids: false },
];

export function event(emitter, name, accept = () => true, milliseconds = 15_000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      emitter.off(name, listener);
      reject(new Error(`no such event '${name}' within ${milliseconds} ms`));
    }, milliseconds);
    function listener(context) {
      if (!accept(context)) return;
      clearTimeout(timer);
      emitter.off(name, listener);
      resolve(context);
    }
    emitter.on(name, listener);
  });
}

export async function connected(client) {
  const done = event(client, "connected");
  client.connect();
  return done;
}

// Subscribes; fails with the server's code and reason if the subscription ends instead.
export function subscribed(subscription) {
  const done = new Promise((resolve, reject) => {
    const ends = (context) => settle(reject, Object.assign(new Error(`${context.code} ${context.reason}`), { code: context.code }));
    const holds = (context) => settle(resolve, context);
    const timer = setTimeout(() => settle(reject, new Error(`no answer to the subscribe of ${subscription.channel}`)), 15_000);
    function settle(how, what) {
      clearTimeout(timer);
      subscription.off("subscribed", holds);
      subscription.off("unsubscribed", ends);
      how(what);
    }
    subscription.on("subscribed", holds);
    subscription.on("unsubscribed", ends);
  });
  subscription.subscribe();
  return done;
}

// The publications of a subscription from now on.
export class Publications {
  constructor(subscription, decode) {
    this.list = [];
    this.waiting = [];
    // What the server said beside them: why some may be missing.
    this.said = [];
    for (const event of ["subscribing", "subscribed", "unsubscribed"]) {
      subscription.on(event, ({ code, reason, recovered }) => this.said.push({ event, code, reason, recovered }));
    }
    subscription.on("publication", (publication) => {
      this.list.push({ ...publication, value: decode(publication.data) });
      this.waiting = this.waiting.filter((check) => !check());
    });
  }

  get values() {
    return this.list.map((publication) => publication.value);
  }

  count(wanted, milliseconds = 20_000) {
    return new Promise((resolve, reject) => {
      if (this.list.length >= wanted) return resolve(this.list);
      const timer = setTimeout(
        () => reject(new Error(`${this.list.length} of ${wanted} publications within ${milliseconds} ms; said: ${JSON.stringify(this.said)}; last: ${JSON.stringify(this.values.slice(-3)).slice(0, 600)}`)),
        milliseconds,
      );
      this.waiting.push(() => {
        if (this.list.length < wanted) return false;
        clearTimeout(timer);
        resolve(this.list);
        return true;
      });
    });
  }
}
