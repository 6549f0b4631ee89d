package com.corespan.connect;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * The routes of a connector, read from its settings: {@code corespan.subject.a.b} with {@code corespan.key.a.b}, where dots stand for slashes, and, for
 * subjects with dots in their names, {@code corespan.route.N.subject}, {@code .topic}, {@code .key}.
 *
 * @param list by subject, in its order; no subject twice
 * @param problems by the setting that has them, all of them
 */
record Routes(List<Route> list, Map<String, List<String>> problems) {
  static final String SUBJECT_PREFIX = Settings.PREFIX + "subject.";
  static final String KEY_PREFIX = Settings.PREFIX + "key.";
  static final String ROUTE_PREFIX = Settings.PREFIX + "route.";
  private static final Set<String> ROUTE_FIELDS = Set.of("subject", "topic", "key");

  static Routes read(Map<String, String> settings) {
    var reader = new Reader();
    var listed = new TreeMap<String, Map<String, String>>();
    for (var entry : new TreeMap<>(settings).entrySet()) {
      var name = entry.getKey();
      if (name.startsWith(SUBJECT_PREFIX)) {
        var dotted = name.substring(SUBJECT_PREFIX.length());
        reader.add(name, name, "/" + dotted.replace('.', '/'), entry.getValue(), settings.get(KEY_PREFIX + dotted));
      } else if (name.startsWith(KEY_PREFIX)) {
        var subject = SUBJECT_PREFIX + name.substring(KEY_PREFIX.length());
        if (!settings.containsKey(subject)) reader.problem(name, "there is no " + subject + " for this key");
      } else if (name.startsWith(ROUTE_PREFIX)) {
        var rest = name.substring(ROUTE_PREFIX.length());
        int dot = rest.lastIndexOf('.');
        var field = rest.substring(dot + 1);
        if (dot < 1 || !ROUTE_FIELDS.contains(field)) {
          reader.problem(name, "a route has " + ROUTE_PREFIX + "N.subject, .topic and .key, with any name or number for N");
        } else {
          listed.computeIfAbsent(rest.substring(0, dot), absent -> new HashMap<>()).put(field, entry.getValue());
        }
      }
    }
    listed.forEach(
        (number, fields) -> {
          var prefix = ROUTE_PREFIX + number + ".";
          if (fields.get("subject") == null) reader.problem(prefix + "subject", "is missing: a route needs subject and topic");
          else reader.add(prefix + "subject", prefix + "topic", fields.get("subject"), fields.get("topic"), fields.get("key"));
        });
    return new Routes(List.copyOf(reader.routes.values()), reader.problems);
  }

  /** Settings from which {@link #read} makes these routes again: what a task is told. */
  static Map<String, String> write(List<Route> routes) {
    var settings = new LinkedHashMap<String, String>();
    for (int index = 0; index < routes.size(); index++) {
      var route = routes.get(index);
      var prefix = ROUTE_PREFIX + index + ".";
      settings.put(prefix + "subject", route.subject());
      settings.put(prefix + "topic", route.topic());
      if (route.key() != null) settings.put(prefix + "key", route.key());
    }
    return settings;
  }

  /** Whether a setting belongs to a route. */
  static boolean owns(String setting) {
    return setting.startsWith(SUBJECT_PREFIX) || setting.startsWith(KEY_PREFIX) || setting.startsWith(ROUTE_PREFIX);
  }

  /**
   * The routes divided among at most {@code tasksMax} tasks: each route in one part, no part empty, sizes differ by one at most, and the same routes are
   * always divided in the same way.
   */
  static List<List<Route>> divide(List<Route> routes, int tasksMax) {
    int parts = Math.min(tasksMax, routes.size());
    var divided = new ArrayList<List<Route>>();
    for (int part = 0; part < parts; part++) divided.add(new ArrayList<>());
    for (int index = 0; index < routes.size(); index++) divided.get(index % parts).add(routes.get(index));
    return divided;
  }

  private static final class Reader {
    final TreeMap<String, Route> routes = new TreeMap<>();
    final Map<String, List<String>> problems = new LinkedHashMap<>();
    private final Set<String> subjects = new TreeSet<>();

    void problem(String setting, String text) {
      problems.computeIfAbsent(setting, absent -> new ArrayList<>()).add(text);
    }

    void add(String subjectSetting, String topicSetting, String subject, String topic, String key) {
      var badSubject = Route.problemOfSubject(subject);
      badSubject.ifPresent(problem -> problem(subjectSetting, problem));
      if (topic == null) problem(topicSetting, "is missing: which topic of Kafka does " + subject + " go to?");
      else Route.problemOfTopic(topic).ifPresent(problem -> problem(topicSetting, problem));
      if (!subjects.add(subject)) problem(subjectSetting, "subject '" + subject + "' is routed twice; a subject goes to one topic");
      if (badSubject.isEmpty() && topic != null) routes.putIfAbsent(subject, new Route(subject, topic, key));
    }
  }
}
