package com.corespan.connect;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Optional;

/**
 * Up to where a subject has been read: the log, by its epoch, and the offset of the last record in it, as the bridge counts (from 1; 0 is before the
 * first). Valid on every node.
 */
record Position(String epoch, long offset) {
  private static final String SUBJECT = "subject";
  private static final String EPOCH = "epoch";
  private static final String OFFSET = "offset";

  /** Connect's source partition of a subject. */
  static Map<String, String> partition(String subject) {
    return Map.of(SUBJECT, subject);
  }

  /** As Connect's source offset. */
  Map<String, Object> toMap() {
    return Map.of(EPOCH, epoch, OFFSET, offset);
  }

  /** A record that says nothing but this, for Connect to store it: the key is the subject, the value epoch and offset. */
  Received asRecord(String subject, String topic) {
    var text = (epoch + " " + offset).getBytes(StandardCharsets.UTF_8);
    return new Received(new Route(subject, topic, subject), this, new Publication(text, offset, Map.of(), 0, false));
  }

  /** From Connect's source offset; empty if none is stored, or one of a subject that has no positions. */
  static Optional<Position> fromMap(Map<String, ?> stored) {
    if (stored == null || !(stored.get(EPOCH) instanceof String epoch) || epoch.isEmpty() || !(stored.get(OFFSET) instanceof Number offset)) return Optional.empty();
    return Optional.of(new Position(epoch, offset.longValue()));
  }

  /** What is wrong with an offset that an operator wants to set, if anything; null removes what is stored. */
  static Optional<String> problem(Map<String, ?> partition, Map<String, ?> offset) {
    if (partition == null || partition.size() != 1 || !(partition.get(SUBJECT) instanceof String subject) || Route.problemOfSubject(subject).isPresent()) {
      return Optional.of("a source partition is {\"subject\": \"/a/b\"}, not " + partition);
    }
    if (offset == null || (offset.size() == 2 && fromMap(offset).filter(position -> position.offset >= 0).isPresent())) return Optional.empty();
    return Optional.of("a source offset is {\"epoch\": text, \"offset\": number from 0}, not " + offset);
  }
}
