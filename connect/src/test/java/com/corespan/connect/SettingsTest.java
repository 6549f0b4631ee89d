package com.corespan.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

final class SettingsTest {
  private static final Map<String, String> TUTORIAL =
      Map.of(
          "name", "demo", "connector.class", CorespanSourceConnector.class.getName(), "tasks.max", "3", "corespan.servers", "127.0.0.1:8800",
          "corespan.subject.server.status1", "topic1", "corespan.subject.server.status2", "topic2", "corespan.key.server.status2", "mykey");

  private static Map<String, List<String>> problems(Map<String, String> settings) {
    var problems = new TreeMap<String, List<String>>();
    for (var value : new CorespanSourceConnector().validate(settings).configValues()) {
      if (!value.errorMessages().isEmpty()) problems.put(value.name(), value.errorMessages());
    }
    return problems;
  }

  private static Map<String, String> with(String... more) {
    var settings = new HashMap<>(TUTORIAL);
    for (int index = 0; index < more.length; index += 2) settings.put(more[index], more[index + 1]);
    return settings;
  }

  @Test
  void theTutorialIsValid() {
    assertEquals(Map.of(), problems(TUTORIAL));
  }

  @Test
  void allMistakesAreToldAtOnceEachAtItsSetting() {
    var problems =
        problems(
            with(
                "corespan.servers", "nowhere,push:0,push:443", "corespan.subject.a..b", "t", "corespan.subject.good", "bad topic", "corespan.key.other", "k",
                "corespan.route.1.subject", "no-slash", "corespan.route.2.topic", "t", "corespan.route.3.colour", "red", "corespan.on.gap", "ignore",
                "corespan.value.type", "json", "corespan.queue.bytes.max", "12", "corespan.encryption", "maybe", "corespan.ssl.truststore.location", "/x",
                "corespan.sevrers", "x", "corespan.entitlement_token", "t", "corespan.entitlement_token.url", "ftp://x"));
    assertEquals(
        List.of(
            "corespan.encryption", "corespan.entitlement_token.url", "corespan.key.other", "corespan.on.gap", "corespan.queue.bytes.max", "corespan.route.1.subject",
            "corespan.route.1.topic", "corespan.route.2.subject", "corespan.route.3.colour", "corespan.servers", "corespan.sevrers",
            "corespan.ssl.truststore.location", "corespan.subject.a..b", "corespan.subject.good", "corespan.value.type"),
        List.copyOf(problems.keySet()));
    var servers = problems.get("corespan.servers").toString();
    assertTrue(servers.contains("'nowhere'") && servers.contains("'push:0'") && !servers.contains("'push:443'"), servers);
    assertTrue(problems.get("corespan.subject.good").toString().contains("'bad topic'"));
  }

  @Test
  void serversAndASubjectAreNeeded() {
    assertTrue(problems(Map.of("name", "x")).get("corespan.servers").toString().contains("Missing required"));
    assertTrue(problems(Map.of("corespan.servers", "a:1")).get("corespan.servers").toString().contains("no subject"));
    assertTrue(problems(with("corespan.servers", "")).containsKey("corespan.servers"));
  }

  @Test
  void settingsOfTheProductBeforeAreTakenAsTheyAre() {
    var old = new HashMap<String, String>();
    TUTORIAL.forEach((name, value) -> old.put(name.replace("corespan.", "migratorydata."), value));
    old.put("connector.class", CorespanSourceConnector.class.getName());
    assertEquals(Map.of(), problems(old));
    assertEquals(Routes.read(TUTORIAL), Routes.read(Settings.withoutAliases(old)));
    assertEquals(List.of("127.0.0.1:8800"), new Settings(old).getList(Settings.SERVERS));
    assertTrue(problems(with("migratorydata.servers", "b:2")).get("corespan.servers").toString().contains("given twice"));
  }

  @Test
  void everySettingIsDocumented() {
    for (var key : Settings.DEFINITION.configKeys().values()) assertTrue(key.documentation.length() > 10, key.name);
  }

  @Test
  void tasksAreToldTheirRoutesAndAllElse() {
    var connector = new CorespanSourceConnector();
    connector.start(with("corespan.route.x.subject", "/prices/v1.2", "corespan.route.x.topic", "prices", "corespan.on.gap", "fail"));
    var tasks = connector.taskConfigs(2);
    assertEquals(2, tasks.size());
    for (var task : tasks) assertEquals("fail", new Settings(task).getString(Settings.ON_GAP));
    var first = Routes.read(tasks.get(0)).list();
    assertEquals(List.of(new Route("/prices/v1.2", "prices", null), new Route("/server/status2", "topic2", "mykey")), first);
    assertEquals(List.of(new Route("/server/status1", "topic1", null)), Routes.read(tasks.get(1)).list());
  }
}
