package com.corespan.connect;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.CodedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

final class WireTest {
  private interface Fields {
    void write(CodedOutputStream out) throws IOException;
  }

  private static byte[] bytes(Fields fields) throws IOException {
    var bytes = new ByteArrayOutputStream();
    var out = CodedOutputStream.newInstance(bytes);
    fields.write(out);
    out.flush();
    return bytes.toByteArray();
  }

  private static byte[] publication(boolean isRemoved) throws IOException {
    var tag = bytes(out -> {
      out.writeString(1, "trace");
      out.writeString(2, "7");
    });
    return bytes(out -> {
      if (!isRemoved) out.writeByteArray(4, new byte[] {1, 2});
      out.writeUInt64(6, 5);
      out.writeByteArray(7, tag);
      out.writeInt64(9, 1_700_000_000_000L);
      if (isRemoved) out.writeBool(12, true);
    });
  }

  @Test
  void aFrameOfSeveralRepliesIsReadInOrder() throws Exception {
    var push = bytes(out -> {
      out.writeString(2, "/a/b");
      out.writeByteArray(4, publication(true));
    });
    var subscribe = bytes(out -> {
      out.writeBool(3, true);
      out.writeString(6, "e");
      out.writeByteArray(7, publication(false));
      out.writeBool(8, true);
      out.writeUInt64(9, 9);
      out.writeBool(12, true);
    });
    var frame = bytes(out -> {
      out.writeByteArrayNoTag(bytes(reply -> {
        reply.writeUInt32(1, 3);
        reply.writeByteArray(6, subscribe);
      }));
      out.writeByteArrayNoTag(new byte[0]);
      out.writeByteArrayNoTag(bytes(reply -> reply.writeByteArray(4, push)));
    });
    var replies = Wire.replies(frame);
    var subscribed = assertInstanceOf(Reply.Subscribed.class, replies.get(0));
    assertEquals(3, subscribed.id());
    assertEquals(new Position("e", 9), subscribed.position());
    assertTrue(subscribed.isRecoverable() && subscribed.isRecovered() && subscribed.wasRecovering());
    var recovered = subscribed.publications().get(0);
    assertArrayEquals(new byte[] {1, 2}, recovered.data());
    assertEquals(Map.of("trace", "7"), recovered.tags());
    assertEquals(1_700_000_000_000L, recovered.timeMs());
    assertInstanceOf(Reply.Ping.class, replies.get(1));
    var published = assertInstanceOf(Reply.Published.class, replies.get(2));
    assertEquals("/a/b", published.subject());
    assertTrue(published.publication().isRemoved());
    assertEquals(5, published.publication().offset());
    assertEquals(3, replies.size());
  }

  @Test
  void garbageIsAnErrorAndNothingElse() {
    var seed = System.nanoTime();
    var random = new Random(seed);
    for (int round = 0; round < 20_000; round++) {
      var frame = new byte[random.nextInt(60)];
      random.nextBytes(frame);
      try {
        Wire.replies(frame);
      } catch (IOException refused) {
        continue;
      } catch (RuntimeException error) {
        throw new AssertionError("seed " + seed, error);
      }
    }
    assertThrows(IOException.class, () -> Wire.replies(new byte[] {5, 1}));
  }
}
