package com.corespan.connect;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Range;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.ConfigDef.ValidString;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.config.ConfigValue;

/** The settings of connector and task; this file is their manual. */
final class Settings extends AbstractConfig {
  static final String PREFIX = "corespan.";
  /** The prefix of the product that this connector takes over from. */
  static final String ALIAS_PREFIX = "migratorydata.";

  static final String SERVERS = PREFIX + "servers";
  static final String ENCRYPTION = PREFIX + "encryption";
  static final String TRUST_STORE = PREFIX + "ssl.truststore.location";
  static final String TRUST_STORE_PASSWORD = PREFIX + "ssl.truststore.password";
  static final String TRUST_STORE_TYPE = PREFIX + "ssl.truststore.type";
  static final String TOKEN = PREFIX + "entitlement_token";
  static final String TOKEN_FILE = PREFIX + "entitlement_token.file";
  static final String TOKEN_URL = PREFIX + "entitlement_token.url";
  static final String VALUE_TYPE = PREFIX + "value.type";
  static final String ON_GAP = PREFIX + "on.gap";
  static final String START = PREFIX + "start";
  static final String START_TOPIC = PREFIX + "start.topic";
  static final String QUEUE_BYTES_MAX = PREFIX + "queue.bytes.max";

  private static final int QUEUE_BYTES_MIN = 64 * 1024;

  static final ConfigDef DEFINITION =
      new ConfigDef()
          .define(
              SERVERS, Type.LIST, ConfigDef.NO_DEFAULT_VALUE, new ServersValidator(), Importance.HIGH,
              "The bridges, host:port with commas between, as in push1.example.com:443,push2.example.com:443. A task picks one at random and goes on at another when it is lost.")
          .define(ENCRYPTION, Type.BOOLEAN, false, Importance.HIGH, "true: TLS, with the name of the server checked. false: plain WebSocket.")
          .define(
              TRUST_STORE, Type.STRING, "", Importance.MEDIUM,
              "File with the certificates that are trusted for " + ENCRYPTION + " and for an https URL of the token, on every worker. Empty: those that Java trusts.")
          .define(TRUST_STORE_PASSWORD, Type.PASSWORD, "", Importance.MEDIUM, "Password of the trust store; PEM files have none.")
          .define(TRUST_STORE_TYPE, Type.STRING, "PKCS12", ValidString.in("PKCS12", "JKS", "PEM"), Importance.LOW, "PKCS12, JKS or PEM.")
          .define(TOKEN, Type.PASSWORD, "", Importance.HIGH, "The token that entitles to subscribe, if the bridge wants one. It cannot be renewed: see the next two.")
          .define(TOKEN_FILE, Type.STRING, "", Importance.MEDIUM, "Or: a file on every worker that holds the token. Read again for each connection and before the token expires.")
          .define(TOKEN_URL, Type.STRING, "", new UrlValidator(), Importance.MEDIUM, "Or: an http or https URL whose answer to GET is the token, read again as the file is.")
          .define(
              VALUE_TYPE, Type.STRING, "string", ValidString.in("string", "bytes"), Importance.MEDIUM,
              "string: values are UTF-8 text, for StringConverter; one that is not fails the task. bytes: any value, for ByteArrayConverter.")
          .define(
              ON_GAP, Type.STRING, "continue", ValidString.in("continue", "fail"), Importance.HIGH,
              "When the bridge can no longer serve what a subject missed: continue with what there is, or fail the task. Logged and counted (MBean com.corespan.connect:type=gaps) either way."
                  + " A failed task fails again until the stored offset is altered or this is set to continue.")
          .define(
              START, Type.STRING, "latest", ValidString.in("latest", "earliest"), Importance.MEDIUM,
              "Where a subject without a stored offset begins. latest: with what arrives from now on; without " + START_TOPIC + ", a task that dies before Kafka has acknowledged the first record of a subject begins there anew."
                  + " earliest: with the oldest record that the bridge remembers, so nothing that it remembers is missed.")
          .define(
              START_TOPIC, Type.STRING, "", new TopicValidator(), Importance.MEDIUM,
              "A topic of Kafka to which a task writes one small record for each subject that begins by latest, so that Connect stores where: from then on nothing is lost, also before the subject's first record. Empty: none.")
          .define(
              QUEUE_BYTES_MAX, Type.INT, 8 * 1024 * 1024, Range.atLeast(QUEUE_BYTES_MIN), Importance.LOW,
              "Bytes that may wait in a task for Kafka. At the limit nothing is read from the bridge until there is room; one message more than this can be held.");

  Settings(Map<String, String> given) {
    super(DEFINITION, withoutAliases(given), false);
  }

  /** The settings with {@code migratorydata.x} renamed to {@code corespan.x}. Where both are given the latter counts. */
  static Map<String, String> withoutAliases(Map<String, String> given) {
    var renamed = new HashMap<String, String>();
    given.forEach((name, value) -> {
      if (!name.startsWith(ALIAS_PREFIX) && value != null) renamed.put(name, value);
    });
    given.forEach((name, value) -> {
      if (name.startsWith(ALIAS_PREFIX) && value != null) renamed.putIfAbsent(PREFIX + name.substring(ALIAS_PREFIX.length()), value);
    });
    return renamed;
  }

  /** Everything that is wrong with the settings, at once, each problem at the setting that has it. */
  static Config validate(Map<String, String> given) {
    var settings = withoutAliases(given);
    var values = DEFINITION.validateAll(settings);
    var routes = Routes.read(settings);
    var problems = new HashMap<>(routes.problems());
    if (routes.list().isEmpty() && problems.isEmpty()) {
      problem(problems, SERVERS, "no subject is named: add " + Routes.SUBJECT_PREFIX + "a.b = TOPIC for the subject /a/b");
    }
    for (var name : settings.keySet()) {
      if (name.startsWith(PREFIX) && !DEFINITION.names().contains(name) && !Routes.owns(name)) problem(problems, name, "is not a setting of this connector");
    }
    for (var name : given.keySet()) {
      var twin = PREFIX + (name.startsWith(ALIAS_PREFIX) ? name.substring(ALIAS_PREFIX.length()) : "");
      if (name.startsWith(ALIAS_PREFIX) && given.containsKey(twin)) problem(problems, twin, "is given twice, here and as " + name + "; remove one");
    }
    var sources = new ArrayList<String>();
    for (var source : List.of(TOKEN, TOKEN_FILE, TOKEN_URL)) {
      if (!settings.getOrDefault(source, "").isEmpty()) sources.add(source);
    }
    if (sources.size() > 1) problem(problems, sources.get(1), "only one of " + String.join(", ", sources) + " can be set");
    boolean encrypted = "true".equals(settings.getOrDefault(ENCRYPTION, "false").trim().toLowerCase(Locale.ROOT));
    if (!encrypted && !settings.getOrDefault(TRUST_STORE, "").isEmpty()) problem(problems, TRUST_STORE, "needs " + ENCRYPTION + " = true");
    problems.forEach((name, texts) -> {
      var value = values.computeIfAbsent(name, absent -> new ConfigValue(name, settings.get(name), List.of(), new ArrayList<>()));
      texts.forEach(text -> value.addErrorMessage(name + ": " + text));
    });
    return new Config(List.copyOf(values.values()));
  }

  private static void problem(Map<String, List<String>> problems, String setting, String text) {
    problems.computeIfAbsent(setting, absent -> new ArrayList<>()).add(text);
  }

  private static final class ServersValidator implements ConfigDef.Validator {
    @Override
    public void ensureValid(String name, Object value) {
      if (value == null) return;
      var servers = new ArrayList<String>();
      for (var server : (List<?>) value) servers.add(String.valueOf(server));
      var problems = Servers.problems(servers);
      if (!problems.isEmpty()) throw new ConfigException(name + ": " + String.join("; ", problems));
    }

    @Override
    public String toString() {
      return "host:port,host:port,...";
    }
  }

  private static final class TopicValidator implements ConfigDef.Validator {
    @Override
    public void ensureValid(String name, Object value) {
      var topic = String.valueOf(value);
      if (topic.isEmpty()) return;
      Route.problemOfTopic(topic)
          .ifPresent(
              problem -> {
                throw new ConfigException(name + ": " + problem);
              });
    }

    @Override
    public String toString() {
      return "topic";
    }
  }

  private static final class UrlValidator implements ConfigDef.Validator {
    private static final Set<String> SCHEMES = Set.of("http", "https");

    @Override
    public void ensureValid(String name, Object value) {
      var text = String.valueOf(value);
      if (text.isEmpty()) return;
      try {
        var url = new java.net.URI(text);
        if (url.getScheme() != null && SCHEMES.contains(url.getScheme()) && url.getHost() != null) return;
      } catch (java.net.URISyntaxException bad) {
        // Said below.
      }
      throw new ConfigException(name + ": '" + text + "' is not an http or https URL");
    }

    @Override
    public String toString() {
      return "URL";
    }
  }
}
