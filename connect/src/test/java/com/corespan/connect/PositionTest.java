package com.corespan.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.connect.errors.ConnectException;
import org.junit.jupiter.api.Test;

final class PositionTest {
  @Test
  void aStoredOffsetIsReadAgainWhateverNumberItBecame() {
    var position = new Position("1.t.0.0", 42);
    assertEquals(Optional.of(position), Position.fromMap(position.toMap()));
    assertEquals(Optional.of(position), Position.fromMap(Map.of("epoch", "1.t.0.0", "offset", 42)));
    assertEquals(Optional.empty(), Position.fromMap(null));
    assertEquals(Optional.empty(), Position.fromMap(Map.of("offset", 42)));
    assertEquals(Optional.empty(), Position.fromMap(new Position("", 0).toMap()));
  }

  @Test
  void onlyOffsetsThatATaskCouldReadCanBeSet() {
    var connector = new CorespanSourceConnector();
    var removed = new HashMap<Map<String, ?>, Map<String, ?>>();
    removed.put(Map.of("subject", "/a/b"), null);
    assertTrue(connector.alterOffsets(Map.of(), removed));
    assertTrue(connector.alterOffsets(Map.of(), Map.of(Map.of("subject", "/a/b"), Map.of("epoch", "e", "offset", 3))));
    assertThrows(ConnectException.class, () -> connector.alterOffsets(Map.of(), Map.of(Map.of("topic", "a"), Map.of("epoch", "e", "offset", 3))));
    assertThrows(ConnectException.class, () -> connector.alterOffsets(Map.of(), Map.of(Map.of("subject", "/a"), Map.of("epoch", "e", "offset", "3"))));
    assertThrows(ConnectException.class, () -> connector.alterOffsets(Map.of(), Map.of(Map.of("subject", "/a"), Map.of("epoch", "e", "offset", -1))));
  }
}
