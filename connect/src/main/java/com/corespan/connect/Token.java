package com.corespan.connect;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Where the entitlement token comes from: the settings, a file or a URL; the latter two are read again each time. */
final class Token {
  private static final Duration TIMEOUT = Duration.ofSeconds(10);
  private final Settings settings;
  private final HttpClient client;
  private final Duration timeout;

  Token(Settings settings, HttpClient client) {
    this(settings, client, TIMEOUT);
  }

  /**
   * @param timeout for the URL's whole answer
   */
  Token(Settings settings, HttpClient client, Duration timeout) {
    this.settings = settings;
    this.client = client;
    this.timeout = timeout;
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
    // A timeout of the request ends with the head of the answer: a body that does not come would hold the task for ever.
    var asked = client.sendAsync(HttpRequest.newBuilder(URI.create(url)).build(), HttpResponse.BodyHandlers.ofString());
    try {
      var answer = asked.get(timeout.toMillis(), TimeUnit.MILLISECONDS);
      if (answer.statusCode() != 200) throw new IOException(Settings.TOKEN_URL + " answers " + answer.statusCode());
      return answer.body().strip();
    } catch (ExecutionException failed) {
      throw new IOException(Settings.TOKEN_URL + ": " + failed.getCause(), failed.getCause());
    } catch (TimeoutException late) {
      throw new IOException(Settings.TOKEN_URL + " has not answered within " + timeout.toMillis() + " ms", late);
    } finally {
      asked.cancel(true);
    }
  }
}
