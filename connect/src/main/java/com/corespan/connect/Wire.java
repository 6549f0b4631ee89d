package com.corespan.connect;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.WireFormat;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The Centrifuge client protocol in Protobuf, bytes to replies and commands to bytes: the part that a subscriber needs. Field numbers are those of
 * definitions/client.proto of centrifugal/protocol. The SDK for Java is not used, because it neither takes a position from its caller nor gives one, drops
 * the tags of recovered records, knows neither time nor removed, has no place for a trust store, and reads on however much waits.
 */
final class Wire {
  static final String SUBPROTOCOL = "centrifuge-protobuf";
  /** An empty command, length-prefixed. */
  static final byte[] PONG = {0};

  private static final int VARINT = WireFormat.WIRETYPE_VARINT;

  private Wire() {}

  // ---- Commands

  static byte[] connect(int id, String token) {
    return command(id, 4, out -> {
      if (!token.isEmpty()) out.writeString(1, token);
      out.writeString(4, "corespan-connect");
      out.writeString(5, Version.TEXT);
    });
  }

  static byte[] refresh(int id, String token) {
    return command(id, 14, out -> out.writeString(1, token));
  }

  /** Live from now. */
  static byte[] subscribe(int id, String subject) {
    return command(id, 5, out -> out.writeString(1, subject));
  }

  /** Live, after the last {@code count} records. */
  static byte[] subscribeWithHistory(int id, String subject, int count) {
    return command(id, 5, out -> {
      out.writeString(1, subject);
      out.writeByteArray(8, ("{\"history\":" + count + "}").getBytes(StandardCharsets.UTF_8));
    });
  }

  /** Live, after all that follows a position. */
  static byte[] subscribeSince(int id, String subject, Position position) {
    return command(id, 5, out -> {
      out.writeString(1, subject);
      out.writeBool(3, true);
      out.writeString(6, position.epoch());
      out.writeUInt64(7, position.offset());
    });
  }

  private interface Fields {
    void write(CodedOutputStream out) throws IOException;
  }

  private static byte[] bytes(Fields fields) {
    try {
      var bytes = new ByteArrayOutputStream();
      var out = CodedOutputStream.newInstance(bytes);
      fields.write(out);
      out.flush();
      return bytes.toByteArray();
    } catch (IOException impossible) {
      throw new UncheckedIOException(impossible);
    }
  }

  private static byte[] command(int id, int request, Fields fields) {
    var command = bytes(out -> {
      out.writeUInt32(1, id);
      out.writeByteArray(request, bytes(fields));
    });
    return bytes(out -> out.writeByteArrayNoTag(command));
  }

  // ---- Replies

  /** The replies in a frame, in order. */
  static List<Reply> replies(byte[] frame) throws IOException {
    var in = CodedInputStream.newInstance(frame);
    var replies = new ArrayList<Reply>();
    while (!in.isAtEnd()) replies.add(reply(nested(in)));
    return replies;
  }

  private static CodedInputStream nested(CodedInputStream in) throws IOException {
    return CodedInputStream.newInstance(in.readByteArray());
  }

  private static Reply reply(CodedInputStream in) throws IOException {
    if (in.isAtEnd()) return new Reply.Ping();
    int id = 0;
    // The id comes first on the wire, but a reader must not count on it.
    CodedInputStream error = null;
    CodedInputStream push = null;
    CodedInputStream connect = null;
    CodedInputStream subscribe = null;
    CodedInputStream refresh = null;
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      switch (WireFormat.getTagFieldNumber(tag)) {
        case 1 -> id = in.readUInt32();
        case 2 -> error = nested(in);
        case 4 -> push = nested(in);
        case 5 -> connect = nested(in);
        case 6 -> subscribe = nested(in);
        case 14 -> refresh = nested(in);
        default -> in.skipField(tag);
      }
    }
    if (error != null) return refused(id, error);
    if (push != null) return push(push);
    if (connect != null) return connected(id, connect);
    if (subscribe != null) return subscribed(id, subscribe);
    if (refresh != null) return new Reply.Refreshed(id, numbers(refresh).getOrDefault(4, 0L).intValue());
    return new Reply.Other();
  }

  /** The whole numbers of a message by their field; the rest is skipped. */
  private static Map<Integer, Long> numbers(CodedInputStream in) throws IOException {
    var numbers = new LinkedHashMap<Integer, Long>();
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      if (WireFormat.getTagWireType(tag) == VARINT) numbers.put(WireFormat.getTagFieldNumber(tag), in.readInt64());
      else in.skipField(tag);
    }
    return numbers;
  }

  private static Reply connected(int id, CodedInputStream in) throws IOException {
    var numbers = numbers(in);
    boolean expires = numbers.getOrDefault(3, 0L) != 0;
    return new Reply.Connected(id, expires ? numbers.getOrDefault(4, 0L).intValue() : 0, numbers.getOrDefault(7, 0L).intValue());
  }

  private static Reply refused(int id, CodedInputStream in) throws IOException {
    int code = 0;
    var message = "";
    boolean isTemporary = false;
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      switch (WireFormat.getTagFieldNumber(tag)) {
        case 1 -> code = in.readUInt32();
        case 2 -> message = in.readString();
        case 3 -> isTemporary = in.readBool();
        default -> in.skipField(tag);
      }
    }
    return new Reply.Refused(id, code, message, isTemporary);
  }

  private static Reply subscribed(int id, CodedInputStream in) throws IOException {
    var epoch = "";
    long offset = 0;
    boolean isRecoverable = false;
    boolean wasRecovering = false;
    boolean isRecovered = false;
    var publications = new ArrayList<Publication>();
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      switch (WireFormat.getTagFieldNumber(tag)) {
        case 3 -> isRecoverable = in.readBool();
        case 6 -> epoch = in.readString();
        case 7 -> publications.add(publication(nested(in)));
        case 8 -> isRecovered = in.readBool();
        case 9 -> offset = in.readUInt64();
        case 12 -> wasRecovering = in.readBool();
        default -> in.skipField(tag);
      }
    }
    return new Reply.Subscribed(id, new Position(epoch, offset), isRecoverable, wasRecovering, isRecovered, publications);
  }

  private static Reply push(CodedInputStream in) throws IOException {
    var subject = "";
    Publication publication = null;
    CodedInputStream unsubscribe = null;
    CodedInputStream disconnect = null;
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      switch (WireFormat.getTagFieldNumber(tag)) {
        case 2 -> subject = in.readString();
        case 4 -> publication = publication(nested(in));
        case 7 -> unsubscribe = nested(in);
        case 11 -> disconnect = nested(in);
        default -> in.skipField(tag);
      }
    }
    if (publication != null) return new Reply.Published(subject, publication);
    if (unsubscribe == null && disconnect == null) return new Reply.Other();
    var body = unsubscribe != null ? unsubscribe : disconnect;
    int code = 0;
    var reason = "";
    for (int tag = body.readTag(); tag != 0; tag = body.readTag()) {
      switch (WireFormat.getTagFieldNumber(tag)) {
        case 1, 2 -> {
          // An unsubscribe has its code in field 2 and its reason in 3, a disconnect has them in 1 and 2.
          if (WireFormat.getTagWireType(tag) == VARINT) code = body.readUInt32();
          else reason = body.readString();
        }
        case 3 -> {
          if (unsubscribe != null) reason = body.readString();
          else body.skipField(tag);
        }
        default -> body.skipField(tag);
      }
    }
    return unsubscribe != null ? new Reply.Unsubscribed(subject, code, reason) : new Reply.Disconnected(code, reason);
  }

  private static Publication publication(CodedInputStream in) throws IOException {
    var data = new byte[0];
    long offset = 0;
    long timeMs = 0;
    boolean isRemoved = false;
    var tags = new LinkedHashMap<String, String>();
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      switch (WireFormat.getTagFieldNumber(tag)) {
        case 4 -> data = in.readByteArray();
        case 6 -> offset = in.readUInt64();
        case 7 -> tag(nested(in), tags);
        case 9 -> timeMs = in.readInt64();
        case 12 -> isRemoved = in.readBool();
        default -> in.skipField(tag);
      }
    }
    return new Publication(data, offset, tags, timeMs, isRemoved);
  }

  private static void tag(CodedInputStream in, Map<String, String> tags) throws IOException {
    var name = "";
    var value = "";
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      switch (WireFormat.getTagFieldNumber(tag)) {
        case 1 -> name = in.readString();
        case 2 -> value = in.readString();
        default -> in.skipField(tag);
      }
    }
    tags.put(name, value);
  }
}
