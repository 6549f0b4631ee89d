package com.corespan.connect;

/** One subject of a task: whether it is subscribed on the present connection, and up to where it has been read. Owned by {@link Feed}. */
final class Subscription {
  enum State {
    IDLE,
    ASKED,
    LIVE
  }

  final Route route;
  State state = State.IDLE;
  /** When to ask (again), in the time of {@link System#nanoTime}; counts while idle. */
  long askAtNanos;
  /** Null: nothing was read yet, or the subject has no positions. */
  Position position;

  Subscription(Route route, Position position) {
    this.route = route;
    this.position = position;
  }

  /** Whether a publication has been handed on before. */
  boolean has(Publication publication) {
    return position != null && publication.offset() != 0 && publication.offset() <= position.offset();
  }

  /** Moves on over a publication of the log that the subscription is in. */
  void pass(Publication publication) {
    if (position != null && publication.offset() != 0) position = new Position(position.epoch(), publication.offset());
  }
}
