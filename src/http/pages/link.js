// The connection: the SDK's client, a cable that can be pulled, and the record times that the SDK does not pass on.

/** The name under which a record's time (ms) is found among its tags. The server sends no tag that begins with `corespan.` of a record's own. */
const TIME_TAG = 'corespan.time';

/** What stands between this page and the network. Pulled, it ends the connection and lets no new one through. */
export const cable = {
  pulled: false,
  events: new EventTarget(),
  pull() {
    this.pulled = true;
    this.events.dispatchEvent(new Event('offline'));
  },
  plug() {
    this.pulled = false;
    this.events.dispatchEvent(new Event('online'));
  },
};
for (const name of ['offline', 'online']) {
  globalThis.addEventListener(name, () => cable.pulled || cable.events.dispatchEvent(new Event(name)));
}

class CableSocket extends WebSocket {
  constructor(...where) {
    if (cable.pulled) throw new Error('the cable is pulled');
    super(...where);
  }
}

/** A client for that address, not yet connected. */
export function newClient(url, token) {
  const client = new Centrifuge(url, {
    token,
    name: 'corespan-demo',
    websocket: CableSocket,
    networkEventTarget: cable.events,
    minReconnectDelay: 300,
    maxReconnectDelay: 4000,
  });
  keepTimes(client);
  return client;
}

/** The SDK hands on a publication's data, offset and tags only; this puts its time among the tags. Without it, latency is not shown. */
function keepTimes(client) {
  const codec = client._codec;
  if (typeof codec?.decodeReplies !== 'function') return;
  const decode = codec.decodeReplies.bind(codec);
  const keep = (publication) => {
    if (publication?.time) publication.tags = { ...publication.tags, [TIME_TAG]: publication.time };
  };
  codec.decodeReplies = (data) => {
    const replies = decode(data);
    for (const reply of replies) {
      keep(reply.push?.pub);
      reply.subscribe?.publications?.forEach(keep);
    }
    return replies;
  };
}

/** The record's time in ms, or undefined; and its own tags, or undefined. */
export function timeAndTags(tags) {
  if (!tags || !(TIME_TAG in tags)) return [undefined, tags];
  const { [TIME_TAG]: time, ...own } = tags;
  return [Number(time), Object.keys(own).length > 0 ? own : undefined];
}
