package com.corespan.connect;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import javax.management.ObjectName;
import org.apache.kafka.connect.errors.ConnectException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The test's thread is the bridge; the feed is polled, as a task does, on another. */
@Timeout(60)
final class FeedTest {
  private static final Route ROUTE = new Route("/a/b", "t", null);
  private final ExecutorService task = Executors.newSingleThreadExecutor();
  private FakeBridge bridge;
  private Gaps gaps;
  private Feed feed;
  private final List<Received> got = Collections.synchronizedList(new ArrayList<>());
  private @TempDir Path folder;

  @BeforeEach
  void open() throws Exception {
    bridge = new FakeBridge();
    gaps = new Gaps("feed test");
  }

  @AfterEach
  void close() throws Exception {
    if (feed != null) feed.close();
    gaps.close();
    bridge.close();
    task.shutdownNow();
    assertTrue(task.awaitTermination(10, TimeUnit.SECONDS));
  }

  private void feed(Position stored, String... more) {
    var settings = new HashMap<>(Map.of("corespan.servers", bridge.address()));
    for (int index = 0; index < more.length; index += 2) settings.put(more[index], more[index + 1]);
    feed = new Feed(new Settings(settings), List.of(ROUTE), stored == null ? Map.of() : Map.of(ROUTE.subject(), stored), gaps);
  }

  /** Polls until so many records are there in all. */
  private Future<Void> poll(int count) {
    Callable<Void> polling =
        () -> {
          while (got.size() < count && !Thread.interrupted()) got.addAll(feed.poll(50));
          return null;
        };
    return task.submit(polling);
  }

  private List<String> values() {
    return got.stream().map(one -> new String(one.publication().data(), UTF_8)).toList();
  }

  private List<Long> offsets() {
    return got.stream().map(one -> one.position().offset()).toList();
  }

  private static void isSince(FakeBridge.Command command, String epoch, long offset) {
    assertEquals(5, command.kind());
    assertEquals("/a/b", command.fields().get(1));
    assertEquals(List.of("1", epoch, String.valueOf(offset)), List.of(command.fields().get(3), command.fields().get(6), command.fields().get(7)));
  }

  @Test
  void aStoredPositionIsRecoveredAndOverReconnectsNothingIsDoubled() throws Exception {
    feed(new Position("e", 3));
    var polling = poll(6);
    bridge.accept();
    var first = bridge.command();
    isSince(first, "e", 3);
    bridge.grant(first, "e", 5, true, 4, 5);
    bridge.publish("/a/b", 5);
    bridge.publish("/other", 1);
    bridge.publish("/a/b", 7);
    while (got.size() < 3) Thread.sleep(5);
    bridge.drop();
    bridge.accept();
    var second = bridge.command();
    isSince(second, "e", 7);
    bridge.grant(second, "e", 9, true, 6, 7, 8, 9);
    bridge.publish("/a/b", 9);
    bridge.publish("/a/b", 12);
    polling.get();
    assertEquals(List.of("4", "5", "7", "8", "9", "12"), values());
    assertEquals(List.of(4L, 5L, 7L, 8L, 9L, 12L), offsets());
    assertEquals(0, gaps.getGaps());
  }

  @Test
  void anEmptyRecoverySaysUpToWhereTheSubjectIsComplete() throws Exception {
    feed(new Position("e", 3));
    poll(1);
    bridge.accept();
    bridge.grant(bridge.command(), "e", 40, true);
    bridge.drop();
    bridge.accept();
    isSince(bridge.command(), "e", 40);
  }

  @Test
  void aNewEpochIsAGapAndItsOffsetsCountFromTheBeginning() throws Exception {
    feed(new Position("old", 100));
    var polling = poll(2);
    bridge.accept();
    bridge.grant(bridge.command(), "new", 2, false, 2);
    bridge.publish("/a/b", 3);
    polling.get();
    assertEquals(List.of("2", "3"), values());
    assertEquals(new Position("new", 3), got.get(1).position());
    assertEquals(1, gaps.getGaps());
  }

  @Test
  void aGapOfTheSameLogGoesOnWithoutDoubling() throws Exception {
    feed(new Position("e", 10));
    var polling = poll(2);
    bridge.accept();
    bridge.grant(bridge.command(), "e", 50, false, 9, 50);
    bridge.publish("/a/b", 51);
    polling.get();
    assertEquals(List.of("50", "51"), values());
    assertEquals(1, gaps.getGaps());
  }

  @Test
  void aGapEndsATaskThatWantsIt() throws Exception {
    feed(new Position("old", 100), Settings.ON_GAP, "fail");
    var polling = poll(1);
    bridge.accept();
    bridge.grant(bridge.command(), "new", 2, false, 2);
    var error = assertThrows(java.util.concurrent.ExecutionException.class, polling::get).getCause();
    assertTrue(error instanceof ConnectException && error.getMessage().contains("/a/b") && error.getMessage().contains(Settings.ON_GAP), error.toString());
    assertEquals(List.of(), values());
  }

  @Test
  void aPositionThatIsRefusedIsAGapAndWhatIsNotReadyYetIsNot() throws Exception {
    feed(new Position("e", 10));
    var polling = poll(1);
    bridge.accept();
    bridge.refuse(bridge.command(), 100);
    var again = bridge.command();
    isSince(again, "e", 10);
    assertEquals(0, gaps.getGaps());
    bridge.refuse(again, 112);
    var anew = bridge.command();
    assertEquals(Map.of(1, "/a/b"), anew.fields());
    bridge.grant(anew, "e", 90, false);
    bridge.publish("/a/b", 91);
    polling.get();
    assertEquals(1, gaps.getGaps());
    assertEquals(List.of(91L), offsets());
  }

  @Test
  void withAStartTopicTheFirstRecordSaysWhereTheSubjectBegins() throws Exception {
    feed(null, Settings.START_TOPIC, "starts");
    var polling = poll(2);
    bridge.accept();
    bridge.grant(bridge.command(), "e", 7, false);
    bridge.publish("/a/b", 8);
    polling.get();
    var start = new Records(true).make(got.get(0));
    assertEquals(List.of("starts", "/a/b", "e 7"), List.of(start.topic(), start.key(), start.value()));
    assertEquals(Position.partition("/a/b"), start.sourcePartition());
    assertEquals(new Position("e", 7).toMap(), start.sourceOffset());
    assertEquals("8", values().get(1));
  }

  @Test
  void theTokenIsReadFromItsFileForEachConnection() throws Exception {
    var file = Files.writeString(folder.resolve("token"), "one\n");
    feed(null, Settings.TOKEN_FILE, file.toString());
    poll(1);
    assertEquals("one", bridge.accept());
    bridge.command();
    Files.writeString(file, "two\n");
    bridge.drop();
    assertEquals("two", bridge.accept());
    // Refused for its token: the file may hold a better one by now.
    var subscribe = bridge.command();
    Files.writeString(file, "three");
    bridge.refuse(subscribe, 109);
    assertEquals("three", bridge.accept());
  }

  @Test
  void theTokenIsRenewedWhileRecordsNeverCease() throws Exception {
    var file = Files.writeString(folder.resolve("token"), "one");
    feed(null, Settings.TOKEN_FILE, file.toString());
    Callable<Void> polling =
        () -> {
          while (!Thread.interrupted()) feed.poll(500);
          return null;
        };
    task.submit(polling);
    assertEquals("one", bridge.accept(1));
    bridge.grant(bridge.command(), "e", 0, false);
    Files.writeString(file, "two");
    // Each message fills a poll, so none of them finds that nothing has arrived.
    var isOver = new java.util.concurrent.atomic.AtomicBoolean();
    var flood =
        new Thread(
            () -> {
              try {
                for (long offset = 1; !isOver.get(); ) {
                  var message = new java.io.ByteArrayOutputStream();
                  for (long next = offset + 2_500; offset < next; offset++) message.writeBytes(FakeBridge.published("/a/b", offset, new byte[] {'x'}));
                  bridge.send(message.toByteArray());
                }
              } catch (java.io.IOException ended) {
                // The test has failed before it was over.
              }
            });
    flood.start();
    try {
      var refresh = bridge.command();
      assertEquals(14, refresh.kind());
      assertEquals("two", refresh.fields().get(1));
    } finally {
      isOver.set(true);
      // Ends a send that waits for the feed.
      bridge.drop();
      flood.join();
    }
  }

  /** A token URL that gives these tokens, and then holds each request until it is released with one more. */
  private static final class SlowTokens implements AutoCloseable {
    private final HttpServer server;
    private final ExecutorService threads = Executors.newCachedThreadPool();
    private final Semaphore asked = new Semaphore(0);
    private final BlockingQueue<String> tokens = new LinkedBlockingQueue<>();

    SlowTokens(String... atOnce) throws IOException {
      tokens.addAll(List.of(atOnce));
      server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
      server.setExecutor(threads);
      server.createContext(
          "/",
          exchange -> {
            asked.release();
            try {
              var body = tokens.take().getBytes(UTF_8);
              exchange.sendResponseHeaders(200, body.length);
              exchange.getResponseBody().write(body);
            } catch (InterruptedException over) {
              Thread.currentThread().interrupt();
            }
            exchange.close();
          });
      server.start();
    }

    String url() {
      return "http://127.0.0.1:" + server.getAddress().getPort() + "/";
    }

    void isAsked(int times) throws InterruptedException {
      assertTrue(asked.tryAcquire(times, 10, TimeUnit.SECONDS), "the URL is not asked");
    }

    void release(String token) {
      tokens.add(token);
    }

    @Override
    public void close() {
      server.stop(0);
      threads.shutdownNow();
    }
  }

  private static List<Thread> readers() {
    return Thread.getAllStackTraces().keySet().stream().filter(thread -> thread.getName().equals(TokenReader.THREAD_NAME)).toList();
  }

  @Test
  void aTokenUrlThatHangsHoldsNoRecords() throws Exception {
    try (var tokens = new SlowTokens("one")) {
      feed(null, Settings.TOKEN_URL, tokens.url());
      var isSent = poll(1);
      assertEquals("one", bridge.accept(1));
      bridge.grant(bridge.command(), "e", 0, false);
      // The second is the refresh, which hangs.
      tokens.isAsked(2);
      bridge.publish("/a/b", 1);
      // Half of what the URL has for its answer.
      isSent.get(5, TimeUnit.SECONDS);
      assertEquals(List.of("1"), values());
      poll(2);
      tokens.release("two");
      var refresh = bridge.command();
      assertEquals(14, refresh.kind());
      assertEquals("two", refresh.fields().get(1));
    }
  }

  @Test
  void aPollDoesNotWaitForTheFirstTokenLongerThanForRecords() throws Exception {
    try (var tokens = new SlowTokens()) {
      feed(null, Settings.TOKEN_URL, tokens.url());
      // Connect ends a task between two polls: each has to end by itself.
      for (int time = 0; time < 3; time++) assertEquals(List.of(), task.submit(() -> feed.poll(100)).get(5, TimeUnit.SECONDS));
      tokens.isAsked(1);
      poll(1);
      tokens.release("one");
      assertEquals("one", bridge.accept());
    }
  }

  @Test
  void theEndOfTheTaskEndsTheWaitForTheFirstTokenAndItsThread() throws Exception {
    try (var tokens = new SlowTokens()) {
      feed(null, Settings.TOKEN_URL, tokens.url());
      var waiting = task.submit(() -> feed.poll(60_000));
      tokens.isAsked(1);
      var readers = readers();
      feed.close();
      assertEquals(List.of(), waiting.get(2, TimeUnit.SECONDS));
      assertFalse(readers.isEmpty());
      for (var reader : readers) {
        reader.join(5_000);
        assertFalse(reader.isAlive());
      }
    }
  }

  @Test
  void whenTheQueueIsFullTheBridgeWaits() throws Exception {
    int frame = 16 * 1024;
    int count = 4_000;
    feed(null, Settings.QUEUE_BYTES_MAX, String.valueOf(64 * 1024));
    var polling = poll(1);
    bridge.accept();
    bridge.grant(bridge.command(), "e", 0, false);
    bridge.publish("/a/b", 1);
    polling.get();
    var messages = new ArrayList<byte[]>();
    var push = new byte[frame];
    for (long offset = 2; offset <= count; offset++) {
      long at = offset;
      messages.add(
          FakeBridge.reply(
              0,
              4,
              body -> {
                body.writeString(2, "/a/b");
                var publication = new java.io.ByteArrayOutputStream();
                var out = com.google.protobuf.CodedOutputStream.newInstance(publication);
                out.writeByteArray(4, push);
                out.writeUInt64(6, at);
                out.flush();
                body.writeByteArray(4, publication.toByteArray());
              }));
    }
    // 64 MB want to be sent; what the kernel's buffers take is a part of that.
    long taken = bridge.sendUntilItWaits(messages, 500);
    assertTrue(taken >= 0 && taken < (long) count * frame / 2, "taken: " + taken);
    poll(count).get();
    assertEquals(count, got.size());
    for (int index = 0; index < count; index++) assertEquals(index + 1, got.get(index).position().offset());
  }

  @Test
  void gapsCanBeReadOverJmxAsLongAsTheTaskLives() throws Exception {
    var server = ManagementFactory.getPlatformMBeanServer();
    var pattern = new ObjectName("com.corespan.connect:type=gaps,connector=\"feed test\",task=*");
    var names = server.queryNames(pattern, null);
    assertEquals(1, names.size());
    var name = names.iterator().next();
    feed(new Position("old", 100));
    var polling = poll(1);
    bridge.accept();
    bridge.grant(bridge.command(), "new", 2, false, 2);
    polling.get();
    assertEquals(1L, server.getAttribute(name, "Gaps"));
    assertEquals(0L, server.getAttribute(name, "Dropped"));
    assertEquals("/a/b", server.getAttribute(name, "LastSubject"));
    gaps.close();
    assertEquals(0, server.queryNames(pattern, null).size());
  }
}
