package com.corespan.connect;

import java.nio.charset.StandardCharsets;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * What arrives on a subject goes to a topic, with a key.
 *
 * @param key null: records without a key
 */
record Route(String subject, String topic, String key) {
  /** The bridge's own default, subject.bytes.max allows up to this. */
  private static final int SUBJECT_BYTES_MAX = 65_536;

  private static final int TOPIC_CHARACTERS_MAX = 249;
  private static final Pattern TOPIC = Pattern.compile("[a-zA-Z0-9._-]{1," + TOPIC_CHARACTERS_MAX + "}");

  /** What is wrong with a subject, if anything. */
  static Optional<String> problemOfSubject(String subject) {
    if (!subject.startsWith("/")) return Optional.of("subject '" + subject + "' must begin with a slash, as in /server/status");
    var segments = subject.substring(1).split("/", -1);
    for (var segment : segments) {
      if (segment.isEmpty()) return Optional.of("subject '" + subject + "' has an empty segment; write /a/b, without // and without a slash at its end");
    }
    if (subject.chars().anyMatch(Character::isISOControl)) return Optional.of("subject '" + subject + "' has a control character");
    if (subject.getBytes(StandardCharsets.UTF_8).length > SUBJECT_BYTES_MAX) return Optional.of("a subject is longer than " + SUBJECT_BYTES_MAX + " bytes");
    return problemOfTopic(segments[0]).map(problem -> "subject '" + subject + "': its first segment names a topic of the bridge, and " + problem);
  }

  /** What is wrong with a topic's name, if anything. */
  static Optional<String> problemOfTopic(String topic) {
    if (TOPIC.matcher(topic).matches() && !topic.equals(".") && !topic.equals("..")) return Optional.empty();
    return Optional.of("topic '" + topic + "' must have 1 to " + TOPIC_CHARACTERS_MAX + " characters of a-z A-Z 0-9 . _ - and be neither . nor ..");
  }
}
