package com.corespan.connect;

import java.net.URI;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;

/** The bridges that may be asked, each as good as any other: a random one first, then the others, round and round. */
final class Servers {
  private static final int PORT_MAX = 65_535;
  private final List<String> order;
  private int next;

  /**
   * @param servers addresses as {@link #problems} lets through
   */
  Servers(List<String> servers, Random random) {
    order = new ArrayList<>(servers);
    Collections.shuffle(order, random);
  }

  /** The next server to try, as {@code host:port}. */
  String next() {
    return order.get(Math.floorMod(next++, order.size()));
  }

  int count() {
    return order.size();
  }

  static URI endpoint(String server, boolean encrypted) {
    return URI.create((encrypted ? "wss://" : "ws://") + server + "/connection/websocket");
  }

  /** What is wrong with a list of servers, one line for each bad entry. */
  static List<String> problems(List<String> servers) {
    var problems = new ArrayList<String>();
    if (servers.isEmpty()) problems.add("is empty: name at least one server, as in push1.example.com:443");
    for (var server : servers) {
      if (!isAddress(server)) problems.add("'" + server + "' is not host:port with a port of 1 to " + PORT_MAX + ", as in push1.example.com:443 or [::1]:8800");
    }
    return problems;
  }

  private static boolean isAddress(String server) {
    try {
      var uri = new URI("ws://" + server);
      return uri.getHost() != null && uri.getPort() >= 1 && uri.getPort() <= PORT_MAX && uri.getUserInfo() == null && uri.getPath().isEmpty() && uri.getQuery() == null && uri.getFragment() == null;
    } catch (java.net.URISyntaxException bad) {
      return false;
    }
  }
}
