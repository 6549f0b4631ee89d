package com.corespan.connect;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTask;

/**
 * A part of the connector's subjects. Each record carries the position of its subject as source offset, so Connect stores what Kafka has acknowledged, and
 * the next task goes on behind that: at least once, and exactly once where the worker has exactly.once.source.support.
 */
public final class CorespanSourceTask extends SourceTask {
  /** Connect looks between two polls whether the task should end. */
  private static final long POLL_WAIT_MS = 500;

  private Records records;
  private Gaps gaps;
  private volatile Feed feed;

  /** Called by Connect. */
  public CorespanSourceTask() {}

  @Override
  public String version() {
    return Version.TEXT;
  }

  @Override
  public void start(Map<String, String> given) {
    var settings = new Settings(given);
    var routes = Routes.read(settings.originalsStrings()).list();
    records = new Records(settings.getString(Settings.VALUE_TYPE).equals("string"));
    gaps = new Gaps(given.getOrDefault("name", "corespan"));
    feed = new Feed(settings, routes, positions(routes), gaps);
  }

  private Map<String, Position> positions(List<Route> routes) {
    var stored = context.offsetStorageReader().offsets(routes.stream().map(route -> Position.partition(route.subject())).toList());
    var positions = new HashMap<String, Position>();
    for (var route : routes) {
      Position.fromMap(stored.get(Position.partition(route.subject()))).ifPresent(position -> positions.put(route.subject(), position));
    }
    return positions;
  }

  @Override
  public List<SourceRecord> poll() throws InterruptedException {
    var received = feed.poll(POLL_WAIT_MS);
    if (received.isEmpty()) return null;
    var made = new ArrayList<SourceRecord>(received.size());
    for (var one : received) made.add(records.make(one));
    return made;
  }

  @Override
  public void stop() {
    if (feed != null) feed.close();
    if (gaps != null) gaps.close();
  }
}
