package com.corespan.connect;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.source.ExactlyOnceSupport;
import org.apache.kafka.connect.source.SourceConnector;

/** Subscribes to subjects of a corespan bridge and writes what arrives to topics of Kafka. It only divides the subjects; tasks do the work. */
public final class CorespanSourceConnector extends SourceConnector {
  private Map<String, String> settings = Map.of();

  /** Called by Connect. */
  public CorespanSourceConnector() {}

  @Override
  public String version() {
    return Version.TEXT;
  }

  @Override
  public ConfigDef config() {
    return Settings.DEFINITION;
  }

  @Override
  public Config validate(Map<String, String> given) {
    return Settings.validate(given);
  }

  @Override
  public Class<? extends Task> taskClass() {
    return CorespanSourceTask.class;
  }

  @Override
  public void start(Map<String, String> given) {
    settings = Settings.withoutAliases(given);
  }

  @Override
  public void stop() {}

  @Override
  public List<Map<String, String>> taskConfigs(int tasksMax) {
    var shared = new HashMap<>(settings);
    shared.keySet().removeIf(Routes::owns);
    var tasks = new ArrayList<Map<String, String>>();
    for (var part : Routes.divide(Routes.read(settings).list(), tasksMax)) {
      var task = new HashMap<>(shared);
      task.putAll(Routes.write(part));
      tasks.add(task);
    }
    return tasks;
  }

  /** Every record carries its subject's position, and a task goes on from nothing else. */
  @Override
  public ExactlyOnceSupport exactlyOnceSupport(Map<String, String> given) {
    return ExactlyOnceSupport.SUPPORTED;
  }

  /** Lets an operator set, or remove, where a subject goes on; refuses what a task could not read. */
  @Override
  public boolean alterOffsets(Map<String, String> given, Map<Map<String, ?>, Map<String, ?>> offsets) {
    offsets.forEach(
        (partition, offset) ->
            Position.problem(partition, offset)
                .ifPresent(
                    problem -> {
                      throw new ConnectException(problem);
                    }));
    return true;
  }
}
