package com.corespan.connect;

import java.util.List;

/** What the bridge sends, as far as this connector asks for it. */
sealed interface Reply {
  /** The bridge asks whether we are there. */
  record Ping() implements Reply {}

  /** A command is refused. */
  record Refused(int id, int code, String message, boolean isTemporary) implements Reply {}

  /**
   * @param tokenSeconds until the token expires; 0: never
   * @param pingSeconds between pings; 0: there are none
   */
  record Connected(int id, int tokenSeconds, int pingSeconds) implements Reply {}

  /** Granted; where the subject stands, and what it missed. */
  record Subscribed(int id, Position position, boolean isRecoverable, boolean wasRecovering, boolean isRecovered, List<Publication> publications) implements Reply {}

  /** @param tokenSeconds until the new token expires; 0: never */
  record Refreshed(int id, int tokenSeconds) implements Reply {}

  record Published(String subject, Publication publication) implements Reply {}

  /** The bridge ended a subscription. */
  record Unsubscribed(String subject, int code, String reason) implements Reply {
    private static final int CODE_OF_RETURN_MIN = 2_500;

    /** Whether to subscribe again. */
    boolean isForNow() {
      return code >= CODE_OF_RETURN_MIN;
    }
  }

  /** The bridge is about to end the connection. */
  record Disconnected(int code, String reason) implements Reply {}

  /** Something that this connector did not ask for, or that a newer bridge adds. */
  record Other() implements Reply {}
}
