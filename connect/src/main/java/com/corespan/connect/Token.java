package com.corespan.connect;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Where the entitlement token comes from: the settings, a file or a URL; the latter two are read again each time. */
final class Token {
  static final Duration TIMEOUT = Duration.ofSeconds(10);
  /** Of a file or an answer. Tokens with long lists of subjects have some KiB; a page or a log that was named by mistake has more than this. */
  static final int BYTES_MAX = 64 * 1024;

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

  /** The token as it is now; empty if none is set. Waits 10 s at most for a URL, and as long as the disk takes for a file. */
  String read() throws IOException, InterruptedException {
    var file = settings.getString(Settings.TOKEN_FILE);
    if (!file.isEmpty()) {
      try (var bytes = Files.newInputStream(Path.of(file))) {
        return text(bytes.readNBytes(BYTES_MAX + 1), Settings.TOKEN_FILE);
      }
    }
    var url = settings.getString(Settings.TOKEN_URL);
    if (url.isEmpty()) return settings.getPassword(Settings.TOKEN).value();
    // A timeout of the request ends with the head of the answer: a body that does not come would be waited for for ever.
    var asked = client.sendAsync(HttpRequest.newBuilder(URI.create(url)).build(), head -> new Beginning());
    try {
      var answer = asked.get(timeout.toMillis(), TimeUnit.MILLISECONDS);
      if (answer.statusCode() != 200) throw new IOException(Settings.TOKEN_URL + " answers " + answer.statusCode());
      return text(answer.body(), Settings.TOKEN_URL);
    } catch (ExecutionException failed) {
      throw new IOException(Settings.TOKEN_URL + ": " + failed.getCause(), failed.getCause());
    } catch (TimeoutException late) {
      throw new IOException(Settings.TOKEN_URL + " has not answered within " + timeout.toMillis() + " ms", late);
    } finally {
      asked.cancel(true);
    }
  }

  private static String text(byte[] bytes, String setting) throws IOException {
    if (bytes.length > BYTES_MAX) throw new IOException(setting + " gives more than " + BYTES_MAX + " bytes, the most that a token can have; name one that holds the token and nothing else");
    try {
      return UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString().strip();
    } catch (CharacterCodingException bad) {
      throw new IOException(setting + " gives bytes that are not UTF-8; name one that holds the token and nothing else", bad);
    }
  }

  /** The body of an answer as far as it matters: one byte over the limit tells that there is too much, and the rest is not read. */
  private static final class Beginning implements HttpResponse.BodySubscriber<byte[]> {
    private final CompletableFuture<byte[]> body = new CompletableFuture<>();
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private Flow.Subscription subscription;

    @Override
    public CompletionStage<byte[]> getBody() {
      return body;
    }

    @Override
    public void onSubscribe(Flow.Subscription given) {
      subscription = given;
      subscription.request(1);
    }

    @Override
    public void onNext(List<ByteBuffer> parts) {
      for (var part : parts) {
        var taken = new byte[Math.min(part.remaining(), BYTES_MAX + 1 - bytes.size())];
        part.get(taken);
        bytes.writeBytes(taken);
      }
      if (bytes.size() <= BYTES_MAX) {
        subscription.request(1);
        return;
      }
      subscription.cancel();
      onComplete();
    }

    @Override
    public void onError(Throwable error) {
      body.completeExceptionally(error);
    }

    @Override
    public void onComplete() {
      body.complete(bytes.toByteArray());
    }
  }
}
