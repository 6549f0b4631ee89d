package com.corespan.connect;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Map;
import org.apache.kafka.connect.errors.DataException;
import org.junit.jupiter.api.Test;

final class RecordsTest {
  private static final Route ROUTE = new Route("/server/status2", "topic2", "mykey");

  private static Received received(byte[] data, boolean isRemoved) {
    var tags = Map.of("trace", "7", "corespan.removed", "true");
    return new Received(ROUTE, new Position("e", 5), new Publication(data, 5, tags, 1_700_000_000_000L, isRemoved));
  }

  @Test
  void keyValueHeadersTimestampAndPositionTravel() {
    var record = new Records(true).make(received("h\u00e9".getBytes(UTF_8), false));
    assertEquals("topic2", record.topic());
    assertEquals("mykey", record.key());
    assertEquals("h\u00e9", record.value());
    assertEquals(1_700_000_000_000L, record.timestamp());
    assertEquals(1, record.headers().size());
    assertEquals("7", record.headers().lastWithName("trace").value());
    assertEquals(Map.of("subject", "/server/status2"), record.sourcePartition());
    assertEquals(Map.of("epoch", "e", "offset", 5L), record.sourceOffset());
  }

  @Test
  void aTombstoneStaysOneAndAnEmptyValueDoesNotBecomeOne() {
    assertNull(new Records(true).make(received(new byte[0], true)).value());
    assertEquals("", new Records(true).make(received(new byte[0], false)).value());
  }

  @Test
  void bytesTravelAsTheyAreAndTextIsNeverBent() {
    var binary = new byte[] {(byte) 0xff, 0};
    assertArrayEquals(binary, (byte[]) new Records(false).make(received(binary, false)).value());
    var refused = assertThrows(DataException.class, () -> new Records(true).make(received(binary, false)));
    assertEquals(true, refused.getMessage().contains("corespan.value.type = bytes"));
  }
}
