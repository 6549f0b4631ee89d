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
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
final class TokenTest {
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final CountDownLatch isOver = new CountDownLatch(1);
  private HttpServer server;

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
}
