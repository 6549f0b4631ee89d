package com.corespan.connect;

import java.util.Map;

/**
 * A record as the bridge sends it.
 *
 * @param offset as the bridge counts, from 1; 0 if the subject has no positions
 * @param timeMs the record's timestamp; 0 if it has none
 * @param isRemoved a tombstone: the value is null in Kafka and empty here
 */
record Publication(byte[] data, long offset, Map<String, String> tags, long timeMs, boolean isRemoved) {
  /** Tags that the bridge adds, which are no headers. */
  private static final String OWN_TAGS = "corespan.";

  private static final String DROPPED = OWN_TAGS + "dropped";

  /** The bridge could not send the value; there is nothing to write. */
  boolean isDropped() {
    return tags.containsKey(DROPPED);
  }

  static boolean isHeader(String tag) {
    return !tag.startsWith(OWN_TAGS);
  }
}
