package com.corespan.connect;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.header.ConnectHeaders;
import org.apache.kafka.connect.source.SourceRecord;

/** Makes Connect's records: topic and key by the route, value, headers and timestamp as in the bridge's Kafka, a tombstone stays one. */
final class Records {
  private static final Map<String, Object> NO_POSITION = new Position("", 0).toMap();
  private final boolean isText;

  /**
   * @param isText values are strings; else bytes
   */
  Records(boolean isText) {
    this.isText = isText;
  }

  SourceRecord make(Received received) {
    var route = received.route();
    var publication = received.publication();
    var headers = new ConnectHeaders();
    publication.tags().forEach((name, value) -> {
      if (Publication.isHeader(name)) headers.addString(name, value);
    });
    return new SourceRecord(
        Position.partition(route.subject()),
        received.position() == null ? NO_POSITION : received.position().toMap(),
        route.topic(),
        null,
        Schema.OPTIONAL_STRING_SCHEMA,
        route.key(),
        isText ? Schema.OPTIONAL_STRING_SCHEMA : Schema.OPTIONAL_BYTES_SCHEMA,
        value(route, publication),
        publication.timeMs() > 0 ? publication.timeMs() : null,
        headers);
  }

  private Object value(Route route, Publication publication) {
    if (publication.isRemoved()) return null;
    if (!isText) return publication.data();
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(publication.data())).toString();
    } catch (CharacterCodingException binary) {
      throw new DataException(route.subject() + " at " + publication.offset() + ": the value is not UTF-8 text; set " + Settings.VALUE_TYPE + " = bytes and value.converter = org.apache.kafka.connect.converters.ByteArrayConverter", binary);
    }
  }
}
