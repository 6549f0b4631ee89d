package com.corespan.connect;

/**
 * A record that arrived on a route.
 *
 * @param position of this record, from which the subject goes on behind it; null if the subject has no positions
 */
record Received(Route route, Position position, Publication publication) {}
