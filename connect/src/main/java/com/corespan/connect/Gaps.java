package com.corespan.connect;

import java.lang.management.ManagementFactory;
import java.util.concurrent.atomic.AtomicInteger;
import javax.management.JMException;
import javax.management.ObjectName;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Counts gaps, and shows them as {@code com.corespan.connect:type=gaps,connector=NAME,task=N} as long as the task lives. */
final class Gaps implements GapsMBean, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Gaps.class);
  private static final AtomicInteger TASKS = new AtomicInteger();
  private final ObjectName name;
  private volatile long gaps;
  private volatile long dropped;
  private volatile String lastSubject = "";

  /**
   * @param connector its name; tasks of one worker are numbered as they start
   */
  Gaps(String connector) {
    ObjectName registered = null;
    try {
      registered = new ObjectName("com.corespan.connect:type=gaps,connector=" + ObjectName.quote(connector) + ",task=" + TASKS.getAndIncrement());
      ManagementFactory.getPlatformMBeanServer().registerMBean(this, registered);
    } catch (JMException error) {
      LOG.warn("gaps are counted but not shown in JMX", error);
    }
    name = registered;
  }

  void gap(String subject) {
    gaps += 1;
    lastSubject = subject;
  }

  void dropped(String subject) {
    dropped += 1;
    lastSubject = subject;
  }

  @Override
  public long getGaps() {
    return gaps;
  }

  @Override
  public long getDropped() {
    return dropped;
  }

  @Override
  public String getLastSubject() {
    return lastSubject;
  }

  @Override
  public void close() {
    try {
      if (name != null) ManagementFactory.getPlatformMBeanServer().unregisterMBean(name);
    } catch (JMException gone) {
      LOG.debug("was not registered", gone);
    }
  }
}
