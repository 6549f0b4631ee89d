package com.corespan.connect;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.http.HttpClient;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
final class TokenTest {
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final CountDownLatch isOver = new CountDownLatch(1);
  private HttpServer server;
  private @TempDir Path folder;

  @BeforeEach
  void open() throws IOException {
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.setExecutor(threads);
    server.start();
  }

  @AfterEach
  void close() {
    isOver.countDown();
    server.stop(0);
    threads.shutdownNow();
  }

  private Token token(HttpHandler answer, Duration timeout) {
    server.createContext("/token", answer);
    var url = "http://127.0.0.1:" + server.getAddress().getPort() + "/token";
    return new Token(new Settings(Map.of("corespan.servers", "a:1", Settings.TOKEN_URL, url)), HttpClient.newHttpClient(), timeout);
  }

  private static HttpHandler answers(int status, String body) {
    return exchange -> {
      exchange.sendResponseHeaders(status, body.length());
      exchange.getResponseBody().write(body.getBytes(UTF_8));
      exchange.close();
    };
  }

  @Test
  void theAnswerOfAUrlIsTheTokenWithoutItsLineEnd() throws Exception {
    var token = token(answers(200, "a.b.c\n"), Duration.ofSeconds(10));
    assertTrue(token.isRenewable());
    assertEquals("a.b.c", token.read());
  }

  @Test
  void anotherStatusIsNoToken() {
    var token = token(answers(404, "<html>"), Duration.ofSeconds(10));
    var error = assertThrows(IOException.class, token::read);
    assertEquals(Settings.TOKEN_URL + " answers 404", error.getMessage());
  }

  @Test
  void aServerThatIsNotThereIsNamedByItsSetting() {
    var token = token(answers(200, "a"), Duration.ofSeconds(10));
    server.stop(0);
    var error = assertThrows(IOException.class, token::read);
    assertTrue(error.getMessage().startsWith(Settings.TOKEN_URL + ": java.net.ConnectException"), error.getMessage());
  }

  @Test
  void aBodyThatDoesNotComeDoesNotHoldTheTask() {
    HttpHandler stalls =
        exchange -> {
          exchange.sendResponseHeaders(200, 10);
          exchange.getResponseBody().write('a');
          exchange.getResponseBody().flush();
          try {
            isOver.await();
          } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
          }
          exchange.close();
        };
    var token = token(stalls, Duration.ofMillis(300));
    var error = assertThrows(IOException.class, token::read);
    assertEquals(Settings.TOKEN_URL + " has not answered within 300 ms", error.getMessage());
  }

  private static void isTooLarge(IOException error, String setting) {
    assertEquals(setting + " gives more than 65536 bytes, the most that a token can have; name one that holds the token and nothing else", error.getMessage());
  }

  @Test
  void anAnswerOf64KiBIsTakenAndOneByteMoreIsNot() throws Exception {
    assertEquals(65_536, token(answers(200, "a".repeat(65_536)), Duration.ofSeconds(10)).read().length());
    server.removeContext("/token");
    var token = token(answers(200, "a".repeat(65_537)), Duration.ofSeconds(10));
    isTooLarge(assertThrows(IOException.class, token::read), Settings.TOKEN_URL);
  }

  @Test
  void theRestOfAnAnswerThatIsTooLargeIsNotRead() throws Exception {
    long all = 256L * 1024 * 1024;
    var sent = new AtomicLong();
    var hasEnded = new CountDownLatch(1);
    HttpHandler floods =
        exchange -> {
          exchange.sendResponseHeaders(200, all);
          var part = new byte[64 * 1024];
          try {
            for (; sent.get() < all; sent.addAndGet(part.length)) exchange.getResponseBody().write(part);
          } finally {
            hasEnded.countDown();
            exchange.close();
          }
        };
    var token = token(floods, Duration.ofSeconds(10));
    isTooLarge(assertThrows(IOException.class, token::read), Settings.TOKEN_URL);
    assertTrue(hasEnded.await(10, TimeUnit.SECONDS), "the connection is still open");
    // What the kernel's buffers took is a part of it.
    assertTrue(sent.get() < all / 4, "sent: " + sent.get());
  }

  @Test
  void aStatusIsToldAlsoIfItsPageIsTooLarge() {
    var token = token(answers(500, "a".repeat(1_000_000)), Duration.ofSeconds(10));
    assertEquals(Settings.TOKEN_URL + " answers 500", assertThrows(IOException.class, token::read).getMessage());
  }

  @Test
  void aFileOf64KiBIsTakenAndOneByteMoreIsNot() throws Exception {
    var file = Files.writeString(folder.resolve("token"), "a".repeat(65_536));
    var token = new Token(new Settings(Map.of("corespan.servers", "a:1", Settings.TOKEN_FILE, file.toString())), HttpClient.newHttpClient());
    assertEquals(65_536, token.read().length());
    Files.writeString(file, "a".repeat(65_537));
    isTooLarge(assertThrows(IOException.class, token::read), Settings.TOKEN_FILE);
  }

  @Test
  void aFileThatIsNotTextIsNamedByItsSetting() throws Exception {
    var file = Files.write(folder.resolve("token"), new byte[] {(byte) 0xff});
    var token = new Token(new Settings(Map.of("corespan.servers", "a:1", Settings.TOKEN_FILE, file.toString())), HttpClient.newHttpClient());
    var error = assertThrows(IOException.class, token::read);
    assertTrue(error.getMessage().startsWith(Settings.TOKEN_FILE + " gives bytes that are not UTF-8"), error.getMessage());
  }
}
