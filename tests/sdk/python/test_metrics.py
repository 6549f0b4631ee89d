"""What Prometheus reads: /metrics of a node that has work, in both formats, by the strict parsers of the official client."""

import asyncio
import random
import string
import unittest

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from support import LimitedTest, Node, create_topic, end_all_unless_done

TOPIC = "metrics-" + "".join(random.choices(string.ascii_lowercase, k=6))
TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
# What Prometheus 3 asks with.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def setUpModule():
    global node
    end_all_unless_done(120)
    create_topic(TOPIC, 4)
    node = Node([TOPIC])
    unittest.addModuleCleanup(node.kill)


def sample_names(families):
    return {sample.name for family in families for sample in family.samples}


def series(families):
    """Every sample by its name and labels; a family that names one twice is a fault."""
    listed = [(sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples]
    assert len(listed) == len(set(listed)), [one for one in listed if listed.count(one) > 1]
    return set(listed)


class MetricsTest(LimitedTest):
    # Of all tests together: they share the node.
    published = 0

    async def asyncSetUp(self):
        # One subscription and one publish, so that there is something to tell.
        client = Client(node.websocket, events=ClientEventHandler(), proxy=None)
        self.addAsyncCleanup(client.disconnect)
        await client.connect()
        await client.ready(20)
        subscription = client.new_subscription(f"/{TOPIC}/1", events=SubscriptionEventHandler())
        await subscription.subscribe()
        await subscription.ready(20)
        await subscription.publish({"n": 1})
        MetricsTest.published += 1
        self.subscription = subscription
        text_type, text = node.metrics(TEXT)
        openmetrics_type, openmetrics = node.metrics(OPENMETRICS)
        self.types = text_type, openmetrics_type
        self.raw = text, openmetrics
        self.text = list(parse_text(text))
        self.openmetrics = list(parse_openmetrics(openmetrics))

    async def test_each_format_is_what_was_asked_for(self):
        def kind(content_type):
            parts = [part.strip() for part in content_type.split(";")]
            return parts[0], [part for part in parts if part.startswith("version=")]

        self.assertEqual(kind(self.types[0]), ("text/plain", ["version=0.0.4"]))
        self.assertEqual(kind(self.types[1]), ("application/openmetrics-text", ["version=1.0.0"]))
        self.assertTrue(self.raw[1].endswith("# EOF\n"))
        self.assertNotIn("# EOF", self.raw[0])
        content_type, answer = node.metrics(PROMETHEUS)
        self.assertEqual(kind(content_type), ("application/openmetrics-text", ["version=1.0.0"]))
        self.assertTrue(list(parse_openmetrics(answer)))

    async def test_both_formats_hold_the_same_families_samples_and_series(self):
        self.assertTrue(self.text)
        self.assertEqual(sample_names(self.text), sample_names(self.openmetrics))
        self.assertEqual(series(self.text), series(self.openmetrics))

        def types(families):
            # The text format has no type for facts: there they are a gauge that is always 1.
            return {family.name: family.type for family in families if not any(sample.name.endswith("_info") for sample in family.samples)}

        self.assertEqual(types(self.text), types(self.openmetrics))

    async def test_a_counter_is_a_counter_in_both_formats(self):
        def counters(families):
            return {family.name for family in families if family.type == "counter"}

        self.assertTrue(counters(self.text))
        self.assertEqual(counters(self.text), counters(self.openmetrics))
        for families in (self.text, self.openmetrics):
            for family in families:
                for sample in family.samples:
                    if sample.name.endswith("_total"):
                        self.assertEqual(family.type, "counter", sample.name)
                if family.type == "counter":
                    self.assertEqual({sample.name for sample in family.samples} - {f"{family.name}_total"}, set())

    async def test_every_metric_is_ours_and_says_what_it_is(self):
        for families in (self.text, self.openmetrics):
            for family in families:
                # Those of the process have the names that all programs use.
                self.assertRegex(family.name, "^(corespan|process)_")
                self.assertTrue(family.documentation, family.name)
                self.assertNotIn(family.type, ("unknown", "untyped"), family.name)

    async def test_what_nothing_feeds_is_not_shown(self):
        for families in (self.text, self.openmetrics):
            for family in families:
                self.assertTrue(family.samples, family.name)

    async def test_how_long_a_publish_took_is_shown_with_its_stage(self):
        await self.subscription.publish({"n": 3})
        MetricsTest.published += 1
        for accept, parse in ((TEXT, parse_text), (OPENMETRICS, parse_openmetrics)):
            # Shards copy out what they have recorded once in a while.
            for _ in range(200):
                samples = [sample for family in parse(node.metrics(accept)[1]) for sample in family.samples if sample.labels.get("stage") == "ack"]
                count = sum(sample.value for sample in samples if sample.name == "corespan_stage_seconds_count")
                if count >= MetricsTest.published:
                    break
                await asyncio.sleep(0.05)
            self.assertEqual(count, MetricsTest.published, accept)
            slowest = max(sample.value for sample in samples if sample.labels.get("quantile") == "1")
            self.assertTrue(0 < slowest < 60, slowest)

    async def test_a_publish_is_counted_once_in_both_formats(self):
        async def stored(accept, parse, wanted):
            # Shards copy their counters out once in a while.
            for _ in range(200):
                found = sum(
                    sample.value for family in parse(node.metrics(accept)[1]) for sample in family.samples if sample.name == "corespan_publishes_stored_total"
                )
                if found >= wanted:
                    break
                await asyncio.sleep(0.05)
            self.assertEqual(found, wanted, accept)

        for accept, parse in ((TEXT, parse_text), (OPENMETRICS, parse_openmetrics)):
            await stored(accept, parse, MetricsTest.published)
            await self.subscription.publish({"n": 2})
            MetricsTest.published += 1
            await stored(accept, parse, MetricsTest.published)
