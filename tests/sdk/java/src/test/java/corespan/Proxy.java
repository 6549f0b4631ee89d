package corespan;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;

/** A TCP proxy between a client and a node: the network that a test can cut. */
final class Proxy implements AutoCloseable {
  private final ServerSocket server = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
  private final int target;
  private final List<Socket> sockets = new ArrayList<>();
  private boolean pulled;
  private int accepted;

  Proxy(int target) throws IOException {
    this.target = target;
    daemon(
        () -> {
          while (true) pair(server.accept());
        });
  }

  int port() {
    return server.getLocalPort();
  }

  synchronized int accepted() {
    return accepted;
  }

  private synchronized void pair(Socket near) throws IOException {
    if (pulled) {
      near.close();
      return;
    }
    accepted += 1;
    var far = new Socket("127.0.0.1", target);
    sockets.addAll(List.of(near, far));
    daemon(() -> pump(near, far));
    daemon(() -> pump(far, near));
  }

  private static void pump(Socket from, Socket to) throws IOException {
    from.setTcpNoDelay(true);
    try (from;
        to) {
      from.getInputStream().transferTo(to.getOutputStream());
    }
  }

  /** Pulls the cable: breaks every connection, with a reset and without a WebSocket close, and lets no new one through until {@link #plug}. */
  synchronized void pull() throws IOException {
    pulled = true;
    for (var socket : sockets) {
      if (!socket.isClosed()) socket.setSoLinger(true, 0);
      socket.close();
    }
    sockets.clear();
  }

  synchronized void plug() {
    pulled = false;
  }

  @Override
  public void close() throws IOException {
    server.close();
    pull();
  }

  private interface Work {
    void run() throws IOException;
  }

  private static void daemon(Work work) {
    var thread =
        new Thread(
            () -> {
              try {
                work.run();
              } catch (IOException ended) {
                // One of the sockets is closed.
              }
            });
    thread.setDaemon(true);
    thread.start();
  }
}
