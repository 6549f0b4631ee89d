// Messages of the protocol in Protobuf, written and read by hand: fields by their number, in definitions/client.proto of centrifugal/protocol.
const varint = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)]);

export const number = (field, value) => [...varint(field << 3), ...varint(value)];
export const bytes = (field, content) => [...varint((field << 3) | 2), ...varint(content.length), ...content];
export const text = (field, value) => bytes(field, [...Buffer.from(value)]);
// As several messages share a WebSocket message: each behind its length.
export const framed = (content) => [...varint(content.length), ...content];

// The messages in a WebSocket message, each a list of bytes.
export function unframed(buffer) {
  const messages = [];
  for (let at = 0; at < buffer.length; ) {
    const [length, begin] = readVarint(buffer, at);
    messages.push(buffer.subarray(begin, begin + length));
    at = begin + length;
  }
  return messages;
}

// The fields of a message by their number, the last one of each: numbers, and bytes as they are.
export function fields(message) {
  const found = new Map();
  for (let at = 0; at < message.length; ) {
    const [key, begin] = readVarint(message, at);
    const [value, end] = readVarint(message, begin);
    const type = key & 7;
    if (type !== 0 && type !== 2) throw new Error(`a field of wire type ${type}`);
    at = type === 0 ? end : end + value;
    found.set(key >>> 3, type === 0 ? value : message.subarray(end, at));
  }
  return found;
}

function readVarint(buffer, at) {
  let value = 0;
  for (let shift = 1; ; shift *= 128) {
    const byte = buffer[at++];
    if (byte === undefined) throw new Error("the message ends within a number");
    value += (byte & 127) * shift;
    if (byte < 128) return [value, at];
  }
}
