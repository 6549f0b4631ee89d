package com.corespan.connect;

/** What a task could not get, since it started. */
public interface GapsMBean {
  /** Recoveries that the bridge could not complete: records of a subject are missing, nobody knows how many. */
  long getGaps();

  /** Records that the bridge announced without their value, because it is too large for its outbox. */
  long getDropped();

  /** The subject of the last of either; empty if there was none. */
  String getLastSubject();
}
