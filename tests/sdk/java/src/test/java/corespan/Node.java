package corespan;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** {@code corespan serve} as a process of its own, ready when the constructor returns. */
final class Node {
  final int port = freePort();
  private final int adminPort = freePort();
  private final Path folder = Files.createTempDirectory("corespan-");
  private final Process process;

  Node(String topic) throws Exception {
    var config = folder.resolve("corespan.toml");
    Files.writeString(
        config,
        """
        drain.seconds = 1

        [publish]
        pattern = ".*"

        [listen]
        address = "127.0.0.1:%1$d"
        admin = "127.0.0.1:%2$d"

        [cores]
        shards = 2

        [kafka.consumer]
        "bootstrap.servers" = "%3$s"
        topics = ["%4$s"]

        [kafka.producer]
        "bootstrap.servers" = "%3$s"
        """
            .formatted(port, adminPort, needed("CORESPAN_TEST_KAFKA"), topic));
    var log = folder.resolve("log");
    process = start(log, needed("CORESPAN_TEST_BIN"), "serve", "--config", config.toString());
    try {
      awaitReady(log);
    } catch (Exception | Error error) {
      kill();
      throw error;
    }
  }

  private void awaitReady(Path log) throws Exception {
    var client = HttpClient.newHttpClient();
    var request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + adminPort + "/ready")).timeout(Duration.ofSeconds(2)).build();
    var last = "no answer";
    for (var deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30); System.nanoTime() < deadline; Thread.sleep(50)) {
      if (!process.isAlive()) break;
      try {
        var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() == 200) return;
        last = answer.statusCode() + " " + answer.body();
      } catch (IOException error) {
        last = error.toString();
      }
    }
    throw new IllegalStateException("corespan is not ready (" + last + "):\n" + Files.readString(log));
  }

  void kill() throws Exception {
    process.destroyForcibly().waitFor();
    try (var files = Files.list(folder)) {
      for (var file : files.toList()) Files.delete(file);
    }
    Files.delete(folder);
  }

  static String endpoint(int port) {
    return "ws://127.0.0.1:" + port + "/connection/websocket";
  }

  static void createTopic(String name, int partitions) throws Exception {
    var log = Files.createTempFile("corespan-topic", ".log");
    var tool =
        start(
            log, needed("CORESPAN_TEST_KAFKA_DEV"), "kafka", "TopicCommand", "--bootstrap-server", needed("CORESPAN_TEST_KAFKA"),
            "--create", "--topic", name, "--partitions", String.valueOf(partitions));
    var ended = tool.waitFor(50, TimeUnit.SECONDS);
    tool.destroyForcibly();
    var printed = Files.readString(log);
    Files.delete(log);
    if (!ended || tool.exitValue() != 0) throw new IllegalStateException("TopicCommand failed: " + printed);
  }

  /** What ./dev test hands to the tests. A test that lacks it fails and says which command gives it. */
  private static String needed(String name) {
    var value = System.getenv(name);
    if (value == null || value.isEmpty()) throw new IllegalStateException(name + " is not set: run the SDK tests with ./dev test java");
    return value;
  }

  /** A process that ends with this one however that is: at its exit, or, if it is killed with -9, by the kernel (setpriv asks for that). */
  private static Process start(Path log, String... command) throws IOException {
    var all = new ArrayList<>(List.of("setpriv", "--pdeathsig", "KILL", "--"));
    all.addAll(List.of(command));
    var process = new ProcessBuilder(all).redirectErrorStream(true).redirectOutput(log.toFile()).start();
    Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
    return process;
  }

  private static int tried = (int) (ProcessHandle.current().pid() * 97 % 10_000);

  /** 20000 to 29999 belong to the SDK tests (tests/README.md says who has the others). */
  private static int freePort() {
    for (int count = 0; count < 10_000; count++) {
      int port = 20_000 + tried++ % 10_000;
      try (var socket = new ServerSocket(port, 1, InetAddress.getByName("127.0.0.1"))) {
        return socket.getLocalPort();
      } catch (IOException taken) {
        // The next one.
      }
    }
    throw new IllegalStateException("no port from 20000 to 29999 is free");
  }
}
