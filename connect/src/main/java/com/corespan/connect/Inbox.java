package com.corespan.connect;

import java.util.ArrayDeque;

/**
 * Frames that were read and wait for the task. It counts their bytes; over the bound it says "full", and whoever reads stops asking for more until
 * {@link #take} has made room. So it holds at most the bound and one frame. Filled by the network's thread, emptied by the task's.
 */
final class Inbox {
  /** What a waiting frame takes beside its bytes: array header and place in the queue. */
  static final int FRAME_OVERHEAD_BYTES = 32;

  private final long bytesMax;
  private final ArrayDeque<byte[]> frames = new ArrayDeque<>();
  private final Runnable onRoom;
  private long bytes;
  private boolean isWaited;

  /**
   * @param onRoom called once, on the task's thread, for each time that {@link #put} said "full", when there is room again
   */
  Inbox(long bytesMax, Runnable onRoom) {
    this.bytesMax = bytesMax;
    this.onRoom = onRoom;
  }

  /** Takes a frame in, always; false: full, do not read on until {@code onRoom}. */
  synchronized boolean put(byte[] frame) {
    frames.add(frame);
    bytes += frame.length + FRAME_OVERHEAD_BYTES;
    isWaited = bytes >= bytesMax;
    notifyAll();
    return !isWaited;
  }

  /** The next frame; null if none comes within the time. Wakes early, with null, on {@link #wake}. */
  byte[] take(long waitMs) throws InterruptedException {
    byte[] frame;
    boolean hasRoom;
    synchronized (this) {
      if (frames.isEmpty() && waitMs > 0) wait(waitMs);
      frame = frames.poll();
      if (frame != null) bytes -= frame.length + FRAME_OVERHEAD_BYTES;
      hasRoom = isWaited && bytes < bytesMax;
      if (hasRoom) isWaited = false;
    }
    if (hasRoom) onRoom.run();
    return frame;
  }

  synchronized boolean isFull() {
    return isWaited;
  }

  synchronized long bytes() {
    return bytes;
  }

  synchronized void wake() {
    notifyAll();
  }
}
