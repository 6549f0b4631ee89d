package com.corespan.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

final class RoutesTest {
  @Test
  void subjectsAreDividedEvenlyAndEachOnce() {
    for (int subjects : List.of(1, 2, 7, 200)) {
      var routes = new ArrayList<Route>();
      for (int index = 0; index < subjects; index++) routes.add(new Route("/a/" + index, "t", null));
      for (int tasks : List.of(1, 2, 3, 8, 500)) {
        var parts = Routes.divide(routes, tasks);
        assertEquals(Math.min(tasks, subjects), parts.size());
        var seen = new HashSet<Route>();
        for (var part : parts) {
          assertTrue(part.size() == subjects / parts.size() || part.size() == subjects / parts.size() + 1);
          seen.addAll(part);
        }
        assertEquals(new HashSet<>(routes), seen);
      }
    }
    assertEquals(List.of(), Routes.divide(List.of(), 4));
  }

  @Test
  void whatIsWrittenForATaskIsReadAgain() {
    var routes = List.of(new Route("/a/b.c d,=", "t", "k"), new Route("/a/z", "t2", null));
    assertEquals(new Routes(routes, Map.of()), Routes.read(Routes.write(routes)));
  }

  @Test
  void aSubjectGoesToOneTopic() {
    var twice = Routes.read(Map.of("corespan.subject.a.b", "t", "corespan.route.1.subject", "/a/b", "corespan.route.1.topic", "u"));
    assertTrue(twice.problems().toString().contains("routed twice"), twice.toString());
  }

  @Test
  void badSubjectsAndTopicsAreRefused() {
    for (var bad : List.of("", "a", "/", "//a", "/a/", "/a//b", "/bad topic/x", "/./x", "/a/\u0001")) assertTrue(Route.problemOfSubject(bad).isPresent(), bad);
    for (var good : List.of("/a", "/a/b", "/a.b/c d/%/..", "/t/\u00e9")) assertFalse(Route.problemOfSubject(good).isPresent(), good);
    for (var bad : List.of("", ".", "..", "a/b", "a b", "x".repeat(250))) assertTrue(Route.problemOfTopic(bad).isPresent(), bad);
    assertFalse(Route.problemOfTopic("x".repeat(249)).isPresent());
  }
}
