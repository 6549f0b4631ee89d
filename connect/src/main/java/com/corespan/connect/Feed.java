package com.corespan.connect;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.http.HttpClient;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.connect.errors.ConnectException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The records of some subjects, from whichever bridge answers. For each subject, in order and without a record twice as long as the feed lives, from the
 * position that it was given; over a lost bridge it recovers at the next. What cannot be had is a gap, which is logged, counted, and by {@code
 * corespan.on.gap} ends the feed. Used by the task's thread alone, but for {@link #close}.
 */
final class Feed implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Feed.class);

  /** Records of one poll, unless a single message brings more. Fewer would make Connect's transactions small, more would keep others waiting. */
  private static final int POLL_RECORDS_MAX = 2_000;
  /** What {@code corespan.start = earliest} asks for: all that the bridge remembers; cache.records.max is at most this. */
  private static final int HISTORY_RECORDS_MAX = 1_000_000;
  /** Bytes of commands in one message; the bridge reads messages of at least twice its publish limit. */
  private static final int COMMANDS_BYTES_MAX = 32 * 1024;

  private static final long ANSWER_TIMEOUT_MS = 30_000;
  private static final long SILENCE_MARGIN_MS = 10_000;
  private static final long ASK_AGAIN_MS = 500;
  /** Silence after which a bridge is asked for a sign of life, and between two such questions. */
  private static final long PROBE_MS = 2_000;
  /** More than a URL has, so that its own error is told; this one is for disks and name servers. */
  private static final Duration TOKEN_LIMIT = Token.TIMEOUT.plusSeconds(2);
  /** How often a feed without records looks whether the new token is there. */
  private static final long REFRESH_LOOK_MS = 50;

  private static final int ERROR_TEMPORARY = 100;
  private static final int ERROR_TOKEN = 101;
  private static final int ERROR_LIMIT = 106;
  private static final int ERROR_TOKEN_EXPIRED = 109;
  private static final int ERROR_POSITION = 112;
  private static final int DISCONNECT_TOKEN = 3_500;

  private final Servers servers;
  private final Backoff backoff;
  private final boolean isEncrypted;
  private final long inboxBytesMax;
  private final boolean failsOnGap;
  private final boolean startsEarliest;
  /** Empty: a subject's start is stored with its first record. */
  private final String startTopic;
  private final HttpClient client;
  private final Token token;
  private final TokenReader reader;
  private final Gaps gaps;
  private final Map<String, Subscription> subscriptions = new LinkedHashMap<>();

  private volatile Link link;
  private volatile boolean isClosed;
  private String server = "";
  private final Map<Integer, Subscription> asked = new HashMap<>();
  private int lastId;
  private int connectId;
  private int refreshId;
  private boolean isRefreshing;
  private boolean isConnected;
  private long connectAtNanos = System.nanoTime();
  private long answerAtNanos;
  private long probeAtNanos = System.nanoTime();
  private long refreshAtNanos;
  private long tokenSeconds;
  private int pingSeconds;

  /**
   * @param stored where subjects go on; those that are missing begin by {@code corespan.start}
   */
  Feed(Settings settings, List<Route> routes, Map<String, Position> stored, Gaps gaps) {
    var random = new Random();
    servers = new Servers(settings.getList(Settings.SERVERS), random);
    backoff = new Backoff(servers.count(), random);
    isEncrypted = settings.getBoolean(Settings.ENCRYPTION);
    inboxBytesMax = settings.getInt(Settings.QUEUE_BYTES_MAX);
    failsOnGap = settings.getString(Settings.ON_GAP).equals("fail");
    startsEarliest = settings.getString(Settings.START).equals("earliest");
    startTopic = settings.getString(Settings.START_TOPIC);
    client = HttpClient.newBuilder().sslContext(Trust.context(settings)).build();
    token = new Token(settings, client);
    reader = new TokenReader(token::read, TOKEN_LIMIT);
    this.gaps = gaps;
    for (var route : routes) subscriptions.put(route.subject(), new Subscription(route, stored.get(route.subject())));
  }

  /** What has arrived; empty if nothing does within the time. Throws what only an operator can mend. Connect ends a task only between two polls. */
  List<Received> poll(long waitMs) throws InterruptedException {
    var received = new ArrayList<Received>();
    if (isClosed || (link == null && !open(waitMs))) return received;
    ask();
    // Not in `look`, which has no turn as long as records never cease.
    refresh();
    var frame = link.read(isRefreshing ? Math.min(waitMs, REFRESH_LOOK_MS) : waitMs);
    try {
      for (; frame != null; frame = received.size() < POLL_RECORDS_MAX ? link.read(0) : null) {
        for (var reply : Wire.replies(frame)) {
          take(reply, received);
          if (link == null) return received;
        }
      }
    } catch (IOException garbled) {
      lost("what it sends is not the Centrifuge protocol: " + garbled.getMessage());
      return received;
    }
    if (received.size() < POLL_RECORDS_MAX) look();
    return received;
  }

  // ---- The connection

  private boolean open(long waitMs) throws InterruptedException {
    long ms = TimeUnit.NANOSECONDS.toMillis(connectAtNanos - System.nanoTime());
    if (ms > 0) {
      Thread.sleep(Math.min(ms, waitMs));
      if (ms > waitMs) return false;
    }
    String text;
    try {
      reader.begin();
      // No longer than for records: the next poll goes on waiting.
      text = reader.take(Math.max(0, waitMs - Math.max(0, ms)));
    } catch (IOException error) {
      server = servers.next();
      lost("the token cannot be read: " + error);
      return false;
    }
    if (text == null || isClosed) return false;
    server = servers.next();
    try {
      link = Link.open(client, Servers.endpoint(server, isEncrypted), inboxBytesMax);
      if (isClosed) link.close();
      connectId = ++lastId;
      link.send(Wire.connect(connectId, text));
    } catch (ExecutionException error) {
      lost(Link.why(error.getCause()));
      return false;
    } catch (TimeoutException error) {
      lost("no answer");
      return false;
    }
    answered();
    return true;
  }

  private void lost(String reason) {
    if (link != null) link.close();
    link = null;
    isConnected = false;
    asked.clear();
    long now = System.nanoTime();
    for (var subscription : subscriptions.values()) {
      subscription.state = Subscription.State.IDLE;
      subscription.askAtNanos = now;
    }
    long waitMs = backoff.nextMs();
    connectAtNanos = now + TimeUnit.MILLISECONDS.toNanos(waitMs);
    refreshAtNanos = 0;
    refreshId = 0;
    isRefreshing = false;
    reader.forget();
    if (!isClosed) LOG.warn("lost bridge {}: {}; the next is tried in {} ms", server, reason, waitMs);
  }

  private void answered() {
    answerAtNanos = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ANSWER_TIMEOUT_MS);
  }

  /** Whether the connection still stands, when all that it brought has been read. */
  private void look() throws InterruptedException {
    var end = link.end();
    if (end != null) {
      ended(link.endCode(), end);
    } else if ((!isConnected || !asked.isEmpty()) && System.nanoTime() - answerAtNanos > 0) {
      lost("a command was not answered for " + ANSWER_TIMEOUT_MS / 1_000 + " s");
    } else if (pingSeconds > 0 && link.silenceMs() > pingSeconds * 1_000L + SILENCE_MARGIN_MS) {
      lost("no ping for " + link.silenceMs() / 1_000 + " s");
    } else if (link.silenceMs() > PROBE_MS && System.nanoTime() - probeAtNanos > 0) {
      probeAtNanos = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(PROBE_MS);
      link.probe();
    }
  }

  private void ended(int code, String reason) {
    boolean isForGood = (code >= 3_500 && code < 4_000) || (code >= 4_500 && code < 5_000);
    if (isForGood && !(code == DISCONNECT_TOKEN && token.isRenewable())) throw new ConnectException("bridge " + server + " sends this task away for good: " + code + " " + reason);
    lost(reason);
  }

  // ---- The token

  private void expires(int seconds) {
    tokenSeconds = seconds;
    // Early enough that one failure can be mended.
    refreshAtNanos = seconds > 0 && token.isRenewable() ? System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds) * 3 / 4 : 0;
  }

  private void refresh() throws InterruptedException {
    if (refreshAtNanos != 0 && System.nanoTime() - refreshAtNanos > 0) {
      refreshAtNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(Math.max(1, tokenSeconds / 16));
      isRefreshing = true;
      reader.begin();
    }
    if (!isRefreshing) return;
    try {
      var text = reader.take(0);
      if (text == null) return;
      isRefreshing = false;
      refreshId = ++lastId;
      link.send(Wire.refresh(refreshId, text));
    } catch (IOException error) {
      isRefreshing = false;
      LOG.warn("the token cannot be read again: {}", error.toString());
    }
  }

  // ---- The subscriptions

  private void ask() {
    if (!isConnected) return;
    long now = System.nanoTime();
    var commands = new ByteArrayOutputStream();
    for (var subscription : subscriptions.values()) {
      if (subscription.state != Subscription.State.IDLE || now - subscription.askAtNanos < 0) continue;
      if (asked.isEmpty()) answered();
      int id = ++lastId;
      asked.put(id, subscription);
      subscription.state = Subscription.State.ASKED;
      commands.writeBytes(command(id, subscription));
      if (commands.size() > COMMANDS_BYTES_MAX) {
        link.send(commands.toByteArray());
        commands.reset();
      }
    }
    if (commands.size() > 0) link.send(commands.toByteArray());
  }

  private byte[] command(int id, Subscription subscription) {
    var subject = subscription.route.subject();
    if (subscription.position != null) return Wire.subscribeSince(id, subject, subscription.position);
    return startsEarliest ? Wire.subscribeWithHistory(id, subject, HISTORY_RECORDS_MAX) : Wire.subscribe(id, subject);
  }

  private void askLater(Subscription subscription, long ms) {
    subscription.state = Subscription.State.IDLE;
    subscription.askAtNanos = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ms);
  }

  // ---- Replies

  private void take(Reply reply, List<Received> received) {
    if (reply instanceof Reply.Published published) {
      var subscription = subscriptions.get(published.subject());
      if (subscription != null && subscription.state == Subscription.State.LIVE) deliver(subscription, published.publication(), received);
    } else if (reply instanceof Reply.Ping) {
      link.send(Wire.PONG);
    } else if (reply instanceof Reply.Connected connected) {
      if (connected.id() != connectId) return;
      isConnected = true;
      pingSeconds = connected.pingSeconds();
      expires(connected.tokenSeconds());
      LOG.info("connected to bridge {}", server);
      ask();
    } else if (reply instanceof Reply.Subscribed subscribed) {
      var subscription = asked.remove(subscribed.id());
      if (subscription == null) return;
      granted(subscription, subscribed, received);
      if (asked.isEmpty()) LOG.info("{} of {} subjects are live at bridge {}", live(), subscriptions.size(), server);
    } else if (reply instanceof Reply.Refreshed refreshed) {
      if (refreshed.id() == refreshId) expires(refreshed.tokenSeconds());
    } else if (reply instanceof Reply.Refused refused) {
      refused(refused);
    } else if (reply instanceof Reply.Unsubscribed unsubscribed) {
      var subscription = subscriptions.get(unsubscribed.subject());
      if (subscription == null) return;
      if (!unsubscribed.isForNow()) throw new ConnectException("bridge " + server + " ended the subscription to " + unsubscribed.subject() + ": " + unsubscribed.code() + " " + unsubscribed.reason());
      if (subscription.state == Subscription.State.LIVE) askLater(subscription, 0);
    } else if (reply instanceof Reply.Disconnected disconnected) {
      ended(disconnected.code(), disconnected.code() + " " + disconnected.reason());
    }
  }

  private long live() {
    return subscriptions.values().stream().filter(subscription -> subscription.state == Subscription.State.LIVE).count();
  }

  private void granted(Subscription subscription, Reply.Subscribed subscribed, List<Received> received) {
    backoff.succeeded();
    answered();
    var from = subscription.position;
    var to = subscribed.position();
    boolean isGap = from != null && !subscribed.isRecovered();
    if (isGap) gap(subscription.route.subject(), from, to);
    subscription.state = Subscription.State.LIVE;
    // In another log the offsets that were read before say nothing.
    boolean goesOn = from != null && (subscribed.isRecovered() || from.epoch().equals(to.epoch()) && to.offset() >= from.offset());
    subscription.position = subscribed.isRecoverable() ? new Position(to.epoch(), goesOn ? from.offset() : 0) : null;
    // Connect stores positions with records only, so where a subject begins needs a record too; the oldest is found again without.
    if (from == null && subscription.position != null && !startsEarliest && !startTopic.isEmpty()) received.add(to.asRecord(subscription.route.subject(), startTopic));
    for (var publication : subscribed.publications()) deliver(subscription, publication, received);
    // Without records the answer says up to where there are none.
    if (subscribed.publications().isEmpty() && subscription.position != null) subscription.position = new Position(to.epoch(), Math.max(to.offset(), subscription.position.offset()));
  }

  private void deliver(Subscription subscription, Publication publication, List<Received> received) {
    if (subscription.has(publication)) return;
    subscription.pass(publication);
    var subject = subscription.route.subject();
    if (publication.isDropped()) {
      gaps.dropped(subject);
      LOG.error("{} at {}: the value is larger than the bridge's outbox.bytes.max, so it cannot be had", subject, publication.offset());
      if (failsOnGap) throw new ConnectException(subject + " at " + publication.offset() + ": the value is larger than the bridge's outbox.bytes.max; raise that, or set " + Settings.ON_GAP + " = continue");
      return;
    }
    received.add(new Received(subscription.route, publication.offset() == 0 ? null : subscription.position, publication));
  }

  private void gap(String subject, Position from, Position to) {
    gaps.gap(subject);
    LOG.error("gap: bridge {} cannot serve all of {} since {}; it goes on at {}", server, subject, from, to);
    if (failsOnGap) {
      throw new ConnectException(
          "gap: bridge " + server + " cannot serve all of " + subject + " since " + from + "; it stands at " + to + ". To go on without what is missing, set " + Settings.ON_GAP + " = continue, or alter the connector's offset of this subject");
    }
  }

  private void refused(Reply.Refused refused) {
    int code = refused.code();
    var why = code + " " + refused.message();
    boolean isOfToken = code == ERROR_TOKEN || code == ERROR_TOKEN_EXPIRED;
    if (refused.id() == connectId) {
      if (!refused.isTemporary() && code != ERROR_TEMPORARY && !(isOfToken && token.isRenewable())) throw new ConnectException("bridge " + server + " refuses the connection: " + why);
      lost("the connection is refused: " + why);
      return;
    }
    if (refused.id() == refreshId) {
      LOG.warn("bridge {} refuses the new token: {}", server, why);
      return;
    }
    var subscription = asked.remove(refused.id());
    if (subscription == null) return;
    var subject = subscription.route.subject();
    if (refused.isTemporary() || code == ERROR_TEMPORARY) {
      LOG.info("bridge {} cannot serve {} yet: {}", server, subject, why);
      askLater(subscription, ASK_AGAIN_MS);
    } else if (code == ERROR_POSITION) {
      gap(subject, subscription.position, new Position("", 0));
      subscription.position = null;
      askLater(subscription, 0);
    } else if (isOfToken && token.isRenewable()) {
      lost("the subscription to " + subject + " is refused: " + why);
    } else {
      var remedy = code == ERROR_LIMIT ? "; raise tasks.max, or client.subscriptions.max of the bridge" : "";
      throw new ConnectException("bridge " + server + " refuses the subscription to " + subject + ": " + why + remedy);
    }
  }

  /** Ends the feed; from any thread. */
  @Override
  public void close() {
    isClosed = true;
    reader.close();
    var open = link;
    if (open != null) open.close();
  }
}
