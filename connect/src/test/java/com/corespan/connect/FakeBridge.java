package com.corespan.connect;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.WireFormat;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;

/** A bridge that says what a test tells it to: one connection at a time, WebSocket by hand, commands read and replies written field by field. */
final class FakeBridge implements AutoCloseable {
  interface Fields {
    void write(CodedOutputStream out) throws IOException;
  }

  /** A command: its id, the number of its field, and what that holds by field number, all as text. */
  record Command(int id, int kind, Map<Integer, String> fields) {}

  private static final int TIMEOUT_MS = 10_000;
  private static final String ACCEPT_SALT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  private final ServerSocket listener;
  private Socket socket;
  private DataInputStream in;
  private OutputStream out;
  private CodedInputStream commands = CodedInputStream.newInstance(new byte[0]);

  FakeBridge() throws IOException {
    listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
    listener.setSoTimeout(TIMEOUT_MS);
  }

  String address() {
    return "127.0.0.1:" + listener.getLocalPort();
  }

  /** Takes the next connection and its connect command, which it grants; the token. */
  String accept() throws Exception {
    return accept(0);
  }

  /** The same; the token ends in so many seconds, 0: never. */
  String accept(int tokenSeconds) throws Exception {
    drop();
    socket = listener.accept();
    socket.setSoTimeout(TIMEOUT_MS);
    in = new DataInputStream(socket.getInputStream());
    out = socket.getOutputStream();
    commands = CodedInputStream.newInstance(new byte[0]);
    var head = new StringBuilder();
    while (head.indexOf("\r\n\r\n") < 0) head.append((char) in.readUnsignedByte());
    var key = head.toString().split("(?i)sec-websocket-key: ")[1].split("\r\n")[0];
    var accept = Base64.getEncoder().encodeToString(MessageDigest.getInstance("SHA-1").digest((key + ACCEPT_SALT).getBytes(UTF_8)));
    var answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\nSec-WebSocket-Protocol: " + Wire.SUBPROTOCOL + "\r\n\r\n";
    out.write(answer.getBytes(UTF_8));
    var connect = command();
    if (connect.kind() != 4) throw new AssertionError("not a connect: " + connect);
    send(
        reply(
            connect.id(),
            5,
            granted -> {
              granted.writeString(1, "client");
              granted.writeBool(3, tokenSeconds > 0);
              granted.writeUInt32(4, tokenSeconds);
            }));
    return connect.fields().getOrDefault(1, "");
  }

  /** The connection is gone, without a word. */
  void drop() throws IOException {
    if (socket != null) socket.close();
  }

  /** The next command. */
  Command command() throws IOException {
    while (commands.isAtEnd()) commands = CodedInputStream.newInstance(frame());
    var body = CodedInputStream.newInstance(commands.readByteArray());
    int id = 0;
    int kind = 0;
    var fields = new HashMap<Integer, String>();
    for (int tag = body.readTag(); tag != 0; tag = body.readTag()) {
      if (WireFormat.getTagFieldNumber(tag) == 1) {
        id = body.readUInt32();
        continue;
      }
      kind = WireFormat.getTagFieldNumber(tag);
      var request = CodedInputStream.newInstance(body.readByteArray());
      for (int field = request.readTag(); field != 0; field = request.readTag()) {
        boolean isNumber = WireFormat.getTagWireType(field) == WireFormat.WIRETYPE_VARINT;
        fields.put(WireFormat.getTagFieldNumber(field), isNumber ? String.valueOf(request.readUInt64()) : request.readString());
      }
    }
    return new Command(id, kind, fields);
  }

  private byte[] frame() throws IOException {
    boolean isPing = (in.readUnsignedByte() & 0x0f) == 9;
    int length = in.readUnsignedByte() & 0x7f;
    if (length == 126) length = in.readUnsignedShort();
    else if (length == 127) length = (int) in.readLong();
    var mask = in.readNBytes(4);
    var bytes = in.readNBytes(length);
    for (int index = 0; index < length; index++) bytes[index] ^= mask[index % 4];
    // Whether it answers is not what a test waits for.
    return isPing ? frame() : bytes;
  }

  void send(byte[] message) throws IOException {
    var frame = new ByteArrayOutputStream();
    frame.write(0x82);
    if (message.length < 126) {
      frame.write(message.length);
    } else if (message.length < 65_536) {
      frame.write(126);
      frame.write(message.length >> 8);
      frame.write(message.length);
    } else {
      frame.write(127);
      for (int shift = 56; shift >= 0; shift -= 8) frame.write((int) ((long) message.length >> shift));
    }
    frame.write(message);
    out.write(frame.toByteArray());
  }

  /** A subscription is granted at a position, with what it missed: data and offset are the same number. */
  void grant(Command subscribe, String epoch, long offset, boolean isRecovered, long... missed) throws IOException {
    send(
        reply(
            subscribe.id(),
            6,
            body -> {
              body.writeBool(3, true);
              body.writeString(6, epoch);
              for (long one : missed) body.writeByteArray(7, publication(one, String.valueOf(one).getBytes(UTF_8)));
              body.writeBool(8, isRecovered);
              body.writeUInt64(9, offset);
              body.writeBool(12, true);
            }));
  }

  void refuse(Command command, int code) throws IOException {
    send(reply(command.id(), 2, body -> body.writeUInt32(1, code)));
  }

  void publish(String subject, long offset) throws IOException {
    publish(subject, offset, String.valueOf(offset).getBytes(UTF_8));
  }

  void publish(String subject, long offset, byte[] data) throws IOException {
    send(published(subject, offset, data));
  }

  static byte[] published(String subject, long offset, byte[] data) throws IOException {
    return reply(
        0,
        4,
        push -> {
          push.writeString(2, subject);
          push.writeByteArray(4, publication(offset, data));
        });
  }

  private static byte[] publication(long offset, byte[] data) throws IOException {
    return bytes(
        body -> {
          body.writeByteArray(4, data);
          body.writeUInt64(6, offset);
        });
  }

  static byte[] reply(int id, int kind, Fields fields) throws IOException {
    var reply =
        bytes(
            out -> {
              if (id != 0) out.writeUInt32(1, id);
              out.writeByteArray(kind, bytes(fields));
            });
    return bytes(out -> out.writeByteArrayNoTag(reply));
  }

  private static byte[] bytes(Fields fields) throws IOException {
    var bytes = new ByteArrayOutputStream();
    var out = CodedOutputStream.newInstance(bytes);
    fields.write(out);
    out.flush();
    return bytes.toByteArray();
  }

  /** How many bytes the other side takes in before it makes this one wait; -1: all. */
  long sendUntilItWaits(Iterable<byte[]> messages, long waitMs) throws Exception {
    var counter = new java.util.concurrent.atomic.AtomicLong();
    var sender =
        new Thread(
            () -> {
              try {
                for (var message : messages) {
                  send(message);
                  counter.addAndGet(message.length);
                }
              } catch (IOException ended) {
                // The test is over, or the other side has closed: then not all has arrived, which the test sees.
              }
            });
    sender.setDaemon(true);
    sender.start();
    for (long before = -1; sender.isAlive(); ) {
      long now = counter.get();
      if (now == before) return now;
      before = now;
      sender.join(waitMs);
    }
    return -1;
  }

  @Override
  public void close() throws IOException {
    drop();
    listener.close();
  }
}
