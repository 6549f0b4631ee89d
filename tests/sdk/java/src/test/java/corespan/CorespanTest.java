package corespan;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.centrifugal.centrifuge.Client;
import io.github.centrifugal.centrifuge.ConnectedEvent;
import io.github.centrifugal.centrifuge.DisconnectedEvent;
import io.github.centrifugal.centrifuge.EventListener;
import io.github.centrifugal.centrifuge.HistoryOptions;
import io.github.centrifugal.centrifuge.HistoryResult;
import io.github.centrifugal.centrifuge.Options;
import io.github.centrifugal.centrifuge.PresenceResult;
import io.github.centrifugal.centrifuge.Publication;
import io.github.centrifugal.centrifuge.PublicationEvent;
import io.github.centrifugal.centrifuge.PublishResult;
import io.github.centrifugal.centrifuge.RPCResult;
import io.github.centrifugal.centrifuge.ReplyError;
import io.github.centrifugal.centrifuge.ResultCallback;
import io.github.centrifugal.centrifuge.StreamPosition;
import io.github.centrifugal.centrifuge.SubscribedEvent;
import io.github.centrifugal.centrifuge.Subscription;
import io.github.centrifugal.centrifuge.SubscriptionEventListener;
import io.github.centrifugal.centrifuge.SubscriptionOptions;
import io.github.centrifugal.centrifuge.UnsubscribedEvent;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The official Java SDK, unchanged, against corespan on Apache Kafka. It speaks Protobuf alone. */
@Timeout(60)
final class CorespanTest {
  private static final int WAIT_SECONDS = 20;
  private static final String RUN = Long.toString(System.nanoTime() & 0xffffff, 36);
  private static final String TOPIC = "buses-" + RUN;
  private static final AtomicInteger subjects = new AtomicInteger();
  private static Node node;
  private final List<Connection> connections = new ArrayList<>();

  @BeforeAll
  static void start() throws Exception {
    Node.createTopic(TOPIC, 4);
    node = new Node(TOPIC);
  }

  @AfterAll
  static void stop() throws Exception {
    if (node != null) node.kill();
  }

  @AfterEach
  void disconnect() throws Exception {
    for (var connection : connections) connection.client.close(1_000);
  }

  /** A subject of its own for every test, so that none sees another's records. */
  private static String freshSubject() {
    return "/" + TOPIC + "/" + subjects.incrementAndGet() + "/speed";
  }

  private static <T> T next(BlockingQueue<T> queue, String what) throws InterruptedException {
    var event = queue.poll(WAIT_SECONDS, TimeUnit.SECONDS);
    assertNotNull(event, "no " + what + " within " + WAIT_SECONDS + " s");
    return event;
  }

  private static byte[] value(int n) {
    return ("{\"n\":" + n + "}").getBytes(UTF_8);
  }

  private static List<String> values(int from, int to) {
    return IntStream.rangeClosed(from, to).mapToObj(n -> "{\"n\":" + n + "}").toList();
  }

  private static String text(byte[] data) {
    return new String(data, UTF_8);
  }

  /** The result of a call, or the server's error. */
  private static <T> T result(Consumer<ResultCallback<T>> call) throws Exception {
    var answer = new CompletableFuture<T>();
    call.accept(
        (error, result) -> {
          if (error != null) answer.completeExceptionally(error);
          else answer.complete(result);
        });
    return answer.get(WAIT_SECONDS, TimeUnit.SECONDS);
  }

  private static <T> void refused(int code, Consumer<ResultCallback<T>> call) throws Exception {
    var answer = new CompletableFuture<Throwable>();
    call.accept((error, result) -> answer.complete(error));
    var error = answer.get(WAIT_SECONDS, TimeUnit.SECONDS);
    assertTrue(error instanceof ReplyError, "no error of the server: " + error);
    assertEquals(code, ((ReplyError) error).getCode(), error.getMessage());
  }

  private Connection connect(int port) throws Exception {
    var connection = new Connection(port);
    connections.add(connection);
    connection.client.connect();
    assertTrue(!next(connection.connected, "connection").getClient().isEmpty());
    return connection;
  }

  private static final class Connection extends EventListener {
    final BlockingQueue<ConnectedEvent> connected = new LinkedBlockingQueue<>();
    final BlockingQueue<DisconnectedEvent> disconnected = new LinkedBlockingQueue<>();
    final Client client;

    Connection(int port) {
      var options = new Options();
      options.setMinReconnectDelay(50);
      options.setMaxReconnectDelay(200);
      client = new Client(Node.endpoint(port), options, this);
    }

    @Override
    public void onConnected(Client client, ConnectedEvent event) {
      connected.add(event);
    }

    @Override
    public void onDisconnected(Client client, DisconnectedEvent event) {
      disconnected.add(event);
    }

    void publish(String subject, int from, int to) throws Exception {
      for (int n = from; n <= to; n++) {
        var data = value(n);
        CorespanTest.<PublishResult>result(callback -> client.publish(subject, data, callback));
      }
    }

    Told subscribe(String subject) throws Exception {
      var told = new Told(client, subject);
      told.subscription.subscribe();
      var event = next(told.subscribed, "subscription");
      assertTrue(event.getRecoverable());
      return told;
    }
  }

  /** A subscription, and what it tells. */
  private static final class Told extends SubscriptionEventListener {
    final BlockingQueue<SubscribedEvent> subscribed = new LinkedBlockingQueue<>();
    final BlockingQueue<UnsubscribedEvent> unsubscribed = new LinkedBlockingQueue<>();
    final BlockingQueue<PublicationEvent> publications = new LinkedBlockingQueue<>();
    final Subscription subscription;

    Told(Client client, String subject) throws Exception {
      var options = new SubscriptionOptions();
      options.setMinResubscribeDelay(50);
      subscription = client.newSubscription(subject, options, this);
    }

    @Override
    public void onSubscribed(Subscription subscription, SubscribedEvent event) {
      subscribed.add(event);
    }

    @Override
    public void onUnsubscribed(Subscription subscription, UnsubscribedEvent event) {
      unsubscribed.add(event);
    }

    @Override
    public void onPublication(Subscription subscription, PublicationEvent event) {
      publications.add(event);
    }

    /** The next records are these numbers, with offsets that grow. */
    List<PublicationEvent> expect(int from, int to) throws Exception {
      var got = new ArrayList<PublicationEvent>();
      for (var wanted : values(from, to)) {
        var publication = next(publications, "record " + wanted);
        assertEquals(wanted, text(publication.getData()));
        if (!got.isEmpty()) assertTrue(publication.getOffset() > got.get(got.size() - 1).getOffset());
        got.add(publication);
      }
      return got;
    }
  }

  @Test
  void aPublishIsAcknowledgedAndDeliveredInOrder() throws Exception {
    var subject = freshSubject();
    var writer = connect(node.port);
    var told = connect(node.port).subscribe(subject);
    writer.publish(subject, 1, 50);
    CorespanTest.<PublishResult>result(callback -> told.subscription.publish(value(51), callback));
    told.expect(1, 51);
  }

  @Test
  void historyPagesFromAPositionAndBackwards() throws Exception {
    var subject = freshSubject();
    var connection = connect(node.port);
    var told = connection.subscribe(subject);
    connection.publish(subject, 1, 10);
    var seen = told.expect(1, 10);
    var position = page(told, new HistoryOptions.Builder().withLimit(0));
    assertTrue(position.getPublications().isEmpty());
    assertTrue(position.getOffset() >= seen.get(9).getOffset());
    var since = new StreamPosition(seen.get(3).getOffset(), position.getEpoch());
    assertEquals(values(5, 7), texts(page(told, new HistoryOptions.Builder().withLimit(3).withSince(since)).getPublications()));
    assertEquals(List.of("{\"n\":10}", "{\"n\":9}"), texts(page(told, new HistoryOptions.Builder().withLimit(2).withReverse(true)).getPublications()));
    var otherLog = new HistoryOptions.Builder().withLimit(3).withSince(new StreamPosition(1, "of-another-log")).build();
    refused(112, (ResultCallback<HistoryResult> callback) -> told.subscription.history(otherLog, callback));
  }

  private static HistoryResult page(Told told, HistoryOptions.Builder options) throws Exception {
    return result(callback -> told.subscription.history(options.build(), callback));
  }

  private static List<String> texts(List<Publication> publications) {
    return publications.stream().map(publication -> text(publication.getData())).toList();
  }

  @Test
  void nothingIsLostOrDoubledWhenTheSocketIsCut() throws Exception {
    try (var network = new Proxy(node.port)) {
      var subject = freshSubject();
      var writer = connect(node.port);
      var reader = connect(network.port());
      var told = reader.subscribe(subject);
      var quiet = reader.subscribe(freshSubject());
      for (int round = 0; round < 4; round++) {
        int first = round * 30 + 1;
        writer.publish(subject, first, first + 9);
        network.pull();
        // Records that nobody hears at the moment they are made.
        writer.publish(subject, first + 10, first + 19);
        network.plug();
        for (var back : List.of(told, quiet)) {
          var event = next(back.subscribed, "subscription after the cut");
          assertTrue(event.wasRecovering());
          assertTrue(event.getRecovered());
        }
        writer.publish(subject, first + 20, first + 29);
        told.expect(first, first + 29);
      }
      writer.publish(quiet.subscription.getChannel(), 1, 1);
      quiet.expect(1, 1);
      assertTrue(reader.disconnected.isEmpty());
      assertTrue(told.unsubscribed.isEmpty());
      assertTrue(network.accepted() >= 5);
    }
  }

  @Test
  void aThousandSubscriptionsComeBackAndRecover() throws Exception {
    try (var network = new Proxy(node.port)) {
      var writer = connect(node.port);
      var reader = connect(network.port());
      var all = new ArrayList<Told>();
      for (int index = 0; index < 1_000; index++) {
        var told = new Told(reader.client, freshSubject());
        told.subscription.subscribe();
        all.add(told);
      }
      for (var told : all) next(told.subscribed, "subscription");
      network.pull();
      for (int index = 0; index < all.size(); index += 100) writer.publish(all.get(index).subscription.getChannel(), 1, 2);
      network.plug();
      for (var told : all) assertTrue(next(told.subscribed, "subscription after the cut").getRecovered());
      for (int index = 0; index < all.size(); index += 100) {
        all.get(index).expect(1, 2);
        writer.publish(all.get(index + 1).subscription.getChannel(), 1, 1);
        all.get(index + 1).expect(1, 1);
      }
    }
  }

  @Test
  void unsubscribeEndsTheStreamAndALaterSubscribeGoesOn() throws Exception {
    var subject = freshSubject();
    var connection = connect(node.port);
    var told = connection.subscribe(subject);
    connection.publish(subject, 1, 1);
    told.expect(1, 1);
    told.subscription.unsubscribe();
    next(told.unsubscribed, "unsubscribed");
    // The answer to a later command says that the unsubscribe has been done.
    connection.publish(subject, 2, 2);
    told.subscription.subscribe();
    next(told.subscribed, "second subscription");
    connection.publish(subject, 3, 3);
    told.expect(2, 3);
  }

  /**
   * Not at once: this SDK sends a subscribe that follows an unsubscribe before it (0.4.1), and the subscription is over. A record that was on its way
   * when it left it hands out after it has asked from where to go on: that record is in the answer, too, and comes twice.
   */
  @Test
  void leavingAndComingBackWhileRecordsGoOnLosesNothing() throws Exception {
    var subject = freshSubject();
    var writer = connect(node.port);
    var reader = connect(node.port);
    var witness = connect(node.port).subscribe(subject);
    var stop = new AtomicBoolean();
    var published =
        CompletableFuture.supplyAsync(
            () -> {
              int n = 0;
              try {
                while (!stop.get()) writer.publish(subject, ++n, n);
              } catch (Exception error) {
                throw new CompletionException(error);
              }
              return n;
            });
    try {
      var told = new Told(reader.client, subject);
      told.subscription.subscribe();
      next(told.subscribed, "subscription");
      var got = new ArrayList<Long>();
      for (int round = 0; round < 5; round++) {
        for (int count = 0; count < 10; count++) got.add(next(told.publications, "record").getOffset());
        told.subscription.unsubscribe();
        CorespanTest.<HistoryResult>result(callback -> reader.client.history(subject, new HistoryOptions.Builder().withLimit(0).build(), callback));
        told.subscription.subscribe();
        assertTrue(next(told.subscribed, "second subscription").getRecovered());
      }
      stop.set(true);
      var all = witness.expect(1, published.get(WAIT_SECONDS, TimeUnit.SECONDS)).stream().map(PublicationEvent::getOffset).toList();
      // From the first that arrived on: this SDK shows nobody the position of a subscription.
      var wanted = all.subList(all.indexOf(got.get(0)), all.size());
      while (got.get(got.size() - 1) < wanted.get(wanted.size() - 1)) got.add(next(told.publications, "record").getOffset());
      assertEquals(wanted, got.stream().distinct().toList());
    } finally {
      stop.set(true);
    }
  }

  @Test
  void errorsCarryTheirCodes() throws Exception {
    var connection = connect(node.port);
    var client = connection.client;
    var data = value(1);
    for (var bad : List.of(new Bad("/nowhere-" + RUN + "/1", 102), new Bad("no-slash", 107), new Bad("/" + TOPIC + "//1", 107), new Bad("/" + TOPIC + "/", 107))) {
      var told = new Told(client, bad.subject);
      told.subscription.subscribe();
      assertEquals(bad.code, next(told.unsubscribed, "end of " + bad.subject).getCode(), bad.subject);
      refused(bad.code, (ResultCallback<PublishResult> callback) -> client.publish(bad.subject, data, callback));
    }
    var subject = freshSubject();
    refused(104, (ResultCallback<RPCResult> callback) -> client.rpc("no.such.method", data, callback));
    refused(108, (ResultCallback<PresenceResult> callback) -> client.presence(subject, callback));
    refused(106, (ResultCallback<PublishResult> callback) -> client.publish(subject, new byte[1_500_000], callback));
    // The connection is none the worse for it.
    connection.publish(subject, 1, 1);
    assertTrue(connection.disconnected.isEmpty());
  }

  private record Bad(String subject, int code) {}
}
