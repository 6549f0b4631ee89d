package com.corespan.connect;

import java.io.IOException;
import java.util.Properties;

/** The version of the plug-in, as its build wrote it. */
final class Version {
  static final String TEXT = read();

  private Version() {}

  private static String read() {
    try (var file = Version.class.getResourceAsStream("/corespan-connect.properties")) {
      var properties = new Properties();
      if (file != null) properties.load(file);
      return properties.getProperty("version", "unknown");
    } catch (IOException unreadable) {
      return "unknown";
    }
  }
}
