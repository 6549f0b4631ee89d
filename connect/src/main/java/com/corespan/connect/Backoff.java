package com.corespan.connect;

import java.util.Random;

/** How long to wait before the next server: hardly while there are untried ones, then longer each time, with chance so that tasks do not return at once. */
final class Backoff {
  private static final long FIRST_MS = 100;
  private static final long LAST_MS = 10_000;
  private static final int DOUBLINGS_MAX = 10;
  private final int servers;
  private final Random random;
  private int failures;

  Backoff(int servers, Random random) {
    this.servers = servers;
    this.random = random;
  }

  /** Between half and all of 100 ms in the first round, of up to 10 s in later ones. */
  long nextMs() {
    int doublings = Math.min(DOUBLINGS_MAX, Math.max(0, ++failures - servers));
    long ms = Math.min(LAST_MS, FIRST_MS << doublings);
    return ms / 2 + random.nextLong(ms / 2 + 1);
  }

  void succeeded() {
    failures = 0;
  }
}
