package com.corespan.connect;

import java.io.ByteArrayOutputStream;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.nio.channels.UnresolvedAddressException;
import java.security.cert.CertPathBuilderException;
import java.security.cert.CertificateException;
import java.time.Duration;
import java.util.Arrays;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Supplier;

/**
 * One WebSocket connection to one bridge. It reads a message only when the inbox has room, so a task that Kafka holds up makes the bridge wait, not
 * memory grow. A ping that comes alone is answered here, also while the task is busy or paused.
 */
final class Link implements WebSocket.Listener, AutoCloseable {
  private static final Duration OPEN_TIMEOUT = Duration.ofSeconds(5);
  /** The largest message that is taken: a whole cache of a subject (64 MiB by default) in one answer, and some. */
  private static final int MESSAGE_BYTES_MAX = 256 * 1024 * 1024;

  private final Inbox inbox;
  private final ByteArrayOutputStream message = new ByteArrayOutputStream();
  private CompletableFuture<?> sent = CompletableFuture.completedFuture(null);
  private volatile WebSocket socket;
  private volatile String end;
  private volatile int endCode;
  private volatile long heardNanos = System.nanoTime();

  private Link(long inboxBytesMax) {
    inbox = new Inbox(inboxBytesMax, this::readOn);
  }

  private void readOn() {
    heardNanos = System.nanoTime();
    socket.request(1);
  }

  /** Connects, in 5 s at most. */
  static Link open(HttpClient client, URI endpoint, long inboxBytesMax) throws InterruptedException, ExecutionException, TimeoutException {
    var link = new Link(inboxBytesMax);
    var opening = client.newWebSocketBuilder().subprotocols(Wire.SUBPROTOCOL).connectTimeout(OPEN_TIMEOUT).buildAsync(endpoint, link);
    try {
      link.socket = opening.get(OPEN_TIMEOUT.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException | ExecutionException | TimeoutException failed) {
      opening.thenAccept(WebSocket::abort);
      throw failed;
    }
    link.socket.request(1);
    return link;
  }

  /** Why {@link #open} failed, in words for the log. */
  static String why(Throwable cause) {
    if (cause instanceof WebSocketHandshakeException refused) return "it does not open a WebSocket: HTTP status " + refused.getResponse().statusCode();
    for (var inner = cause; inner != null; inner = inner.getCause()) {
      if (inner instanceof CertPathBuilderException) return "its certificate is refused: nobody has signed it whom " + Settings.TRUST_STORE + " trusts (" + inner.getMessage() + ")";
      if (inner instanceof UnresolvedAddressException) return "its name has no address";
    }
    for (var inner = cause; inner != null; inner = inner.getCause()) {
      if (inner instanceof CertificateException) return "its certificate is refused: " + inner.getMessage();
    }
    return cause instanceof ConnectException && cause.getMessage() == null ? "it cannot be reached" : String.valueOf(cause);
  }

  /** The next message; null if there is none in that time, or the connection has ended. */
  byte[] read(long waitMs) throws InterruptedException {
    return inbox.take(end == null ? waitMs : 0);
  }

  /** Why the connection ended, once all that it brought has been read; null as long as there may be more. */
  String end() {
    // The end is noted after all that it follows: whoever sees it, and then nothing left to read, has read everything.
    String why = end;
    return inbox.bytes() > 0 ? null : why;
  }

  /** The code in the bridge's close frame; 0 if there was none. */
  int endCode() {
    return endCode;
  }

  /** For how long nothing was heard; 0 while it is us who do not read. */
  long silenceMs() {
    return inbox.isFull() ? 0 : TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - heardNanos);
  }

  /** Sends after all that was sent before. Does not wait; a failure ends the connection. */
  synchronized void send(byte[] bytes) {
    var buffer = ByteBuffer.wrap(bytes);
    send(() -> socket.sendBinary(buffer, true));
  }

  /**
   * Asks whether the connection still stands: its pong is heard, and what was closed refuses the ping after the next. Java's WebSocket does not notice
   * every close that comes right behind a message.
   */
  synchronized void probe() {
    send(() -> socket.sendPing(ByteBuffer.allocate(0)));
  }

  private void send(Supplier<CompletableFuture<WebSocket>> message) {
    sent = sent.thenCompose(before -> message.get());
    sent.whenComplete((done, error) -> {
      if (error != null) ended(0, "sending failed: " + error);
    });
  }

  @Override
  public void onOpen(WebSocket opened) {
    // The first message is asked for when `socket` is set.
  }

  @Override
  public CompletionStage<?> onBinary(WebSocket from, ByteBuffer part, boolean isLast) {
    heardNanos = System.nanoTime();
    if (message.size() + (long) part.remaining() > MESSAGE_BYTES_MAX) {
      ended(0, "a message is larger than " + MESSAGE_BYTES_MAX + " bytes");
      from.abort();
      return null;
    }
    var bytes = new byte[part.remaining()];
    part.get(bytes);
    message.writeBytes(bytes);
    if (!isLast) {
      from.request(1);
      return null;
    }
    var whole = message.toByteArray();
    message.reset();
    if (Arrays.equals(whole, Wire.PONG)) {
      send(Wire.PONG);
      from.request(1);
    } else if (inbox.put(whole)) {
      from.request(1);
    }
    return null;
  }

  @Override
  public CompletionStage<?> onText(WebSocket from, CharSequence part, boolean isLast) {
    ended(0, "the server sent text: it does not speak " + Wire.SUBPROTOCOL);
    from.abort();
    return null;
  }

  @Override
  public CompletionStage<?> onPing(WebSocket from, ByteBuffer payload) {
    from.request(1);
    return null;
  }

  @Override
  public CompletionStage<?> onPong(WebSocket from, ByteBuffer payload) {
    heardNanos = System.nanoTime();
    from.request(1);
    return null;
  }

  @Override
  public CompletionStage<?> onClose(WebSocket from, int code, String reason) {
    ended(code, "closed by the bridge: " + code + " " + reason);
    return null;
  }

  @Override
  public void onError(WebSocket from, Throwable error) {
    ended(0, String.valueOf(error));
  }

  private void ended(int code, String reason) {
    if (end == null) {
      endCode = code;
      end = reason;
    }
    inbox.wake();
  }

  @Override
  public void close() {
    end = "closed";
    socket.abort();
  }
}
