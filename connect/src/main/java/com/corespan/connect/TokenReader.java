package com.corespan.connect;

import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Reads the token on a thread of its own, one reading at a time, so a source that hangs does not hold the records. The thread lives as long as the
 * reading. Used by the task's thread alone, but for {@link #close}.
 */
final class TokenReader implements AutoCloseable {
  static final String THREAD_NAME = "corespan-token";

  private final Callable<String> source;
  private final long limitMs;
  private FutureTask<String> reading;
  private long beganNanos;
  private volatile Thread thread;
  private volatile boolean isClosed;

  /**
   * @param limit after which a reading counts as failed, whatever it hangs in
   */
  TokenReader(Callable<String> source, Duration limit) {
    this.source = source;
    limitMs = limit.toMillis();
  }

  /** Begins to read, unless a reading goes on or its token was not taken yet. Does not wait. */
  void begin() {
    if (reading != null) return;
    reading = new FutureTask<>(source);
    beganNanos = System.nanoTime();
    var begun = new Thread(reading, THREAD_NAME);
    begun.setDaemon(true);
    begun.start();
    thread = begun;
    if (isClosed) begun.interrupt();
  }

  /**
   * The token that {@link #begin} asked for; null if it is not there within the time. Throws why it cannot be read. A reading that is late goes on, for a
   * file system that hangs cannot be interrupted; the next {@link #begin} then waits for it again.
   */
  String take(long waitMs) throws IOException, InterruptedException {
    try {
      var text = reading.get(waitMs, TimeUnit.MILLISECONDS);
      reading = null;
      return text;
    } catch (TimeoutException notYet) {
      if (System.nanoTime() - beganNanos < TimeUnit.MILLISECONDS.toNanos(limitMs)) return null;
      beganNanos = System.nanoTime();
      throw new IOException("reading it has not ended within " + limitMs + " ms; look whether the disk of " + Settings.TOKEN_FILE + " or the name server for " + Settings.TOKEN_URL + " answers", notYet);
    } catch (ExecutionException failed) {
      reading = null;
      throw failed.getCause() instanceof IOException why ? why : new IOException(failed.getCause());
    }
  }

  /** Drops a token that was not taken: it may be the one that was just refused. */
  void forget() {
    if (reading != null && reading.isDone()) reading = null;
  }

  /** Ends the reading; from any thread. */
  @Override
  public void close() {
    isClosed = true;
    var begun = thread;
    if (begun != null) begun.interrupt();
  }
}
