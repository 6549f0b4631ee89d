package com.corespan.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
final class TokenReaderTest {
  private static final long WAIT_MS = 10_000;
  private final BlockingQueue<String> given = new LinkedBlockingQueue<>();
  private final AtomicInteger readings = new AtomicInteger();
  private TokenReader reader;

  @AfterEach
  void close() {
    reader.close();
  }

  private void reader(Duration limit) {
    Callable<String> source =
        () -> {
          readings.incrementAndGet();
          return given.take();
        };
    reader = new TokenReader(source, limit);
  }

  @Test
  void oneReadingGoesOnAtATime() throws Exception {
    reader(Duration.ofSeconds(60));
    for (int time = 0; time < 3; time++) {
      reader.begin();
      assertNull(reader.take(0));
    }
    given.add("one");
    assertEquals("one", reader.take(WAIT_MS));
    assertEquals(1, readings.get());
    reader.begin();
    given.add("two");
    assertEquals("two", reader.take(WAIT_MS));
    assertEquals(2, readings.get());
  }

  @Test
  void aReadingThatIsLateIsToldAndNoSecondIsBegun() throws Exception {
    reader(Duration.ofMillis(50));
    for (int time = 0; time < 2; time++) {
      reader.begin();
      var error = assertThrows(IOException.class, () -> reader.take(200));
      assertTrue(error.getMessage().contains("50 ms") && error.getMessage().contains(Settings.TOKEN_FILE), error.getMessage());
    }
    given.add("one");
    reader.begin();
    assertEquals("one", reader.take(WAIT_MS));
    assertEquals(1, readings.get());
  }

  @Test
  void anErrorIsToldAsItIsAndTheNextReadingIsNew() throws Exception {
    var error = new IOException("why");
    var isMended = new AtomicInteger();
    reader =
        new TokenReader(
            () -> {
              if (isMended.getAndIncrement() == 0) throw error;
              return "one";
            },
            Duration.ofSeconds(60));
    reader.begin();
    assertSame(error, assertThrows(IOException.class, () -> reader.take(WAIT_MS)));
    reader.begin();
    assertEquals("one", reader.take(WAIT_MS));
  }
}
