package com.corespan.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

final class InboxTest {
  private static final int FRAME = 100;

  @Test
  void itHoldsTheBoundAndOneFrameAndSaysOnceWhenThereIsRoom() throws Exception {
    var room = new AtomicInteger();
    int each = FRAME + Inbox.FRAME_OVERHEAD_BYTES;
    var inbox = new Inbox(3L * each - 1, room::incrementAndGet);
    assertTrue(inbox.put(new byte[FRAME]));
    assertTrue(inbox.put(new byte[FRAME]));
    assertFalse(inbox.put(new byte[FRAME]));
    assertTrue(inbox.isFull());
    assertEquals(3L * each, inbox.bytes());
    assertEquals(FRAME, inbox.take(0).length);
    assertEquals(1, room.get());
    assertFalse(inbox.isFull());
    assertEquals(FRAME, inbox.take(0).length);
    assertEquals(FRAME, inbox.take(0).length);
    assertNull(inbox.take(0));
    assertEquals(1, room.get());
    assertEquals(0, inbox.bytes());
  }

  @Test
  void emptyFramesAreBoundedToo() {
    var inbox = new Inbox(10L * Inbox.FRAME_OVERHEAD_BYTES, () -> {});
    int count = 1;
    while (inbox.put(new byte[0])) count++;
    assertEquals(10, count);
  }
}
