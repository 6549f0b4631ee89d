package com.corespan.connect;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;

/** Where the entitlement token comes from: the settings, a file or a URL; the latter two are read again each time. */
final class Token {
  private static final Duration TIMEOUT = Duration.ofSeconds(10);
  private final Settings settings;
  private final HttpClient client;

  Token(Settings settings, HttpClient client) {
    this.settings = settings;
    this.client = client;
  }

  /** Whether reading again can bring another token. */
  boolean isRenewable() {
    return !settings.getString(Settings.TOKEN_FILE).isEmpty() || !settings.getString(Settings.TOKEN_URL).isEmpty();
  }

  /** The token as it is now; empty if none is set. Waits 10 s at most. */
  String read() throws IOException, InterruptedException {
    var file = settings.getString(Settings.TOKEN_FILE);
    if (!file.isEmpty()) return Files.readString(Path.of(file)).strip();
    var url = settings.getString(Settings.TOKEN_URL);
    if (url.isEmpty()) return settings.getPassword(Settings.TOKEN).value();
    var answer = client.send(HttpRequest.newBuilder(URI.create(url)).timeout(TIMEOUT).build(), HttpResponse.BodyHandlers.ofString());
    if (answer.statusCode() != 200) throw new IOException(Settings.TOKEN_URL + " answers " + answer.statusCode());
    return answer.body().strip();
  }
}
