"""The official Python SDK, unchanged, in JSON and in Protobuf, against corespan on Apache Kafka."""

import asyncio
import itertools
import json
import random
import string
import unittest

from centrifuge import Client, ClientEventHandler, StreamPosition, SubscriptionEventHandler
from centrifuge.exceptions import CentrifugeError, ReplyError

from support import ConsoleProducer, LimitedTest, Node, Proxy, create_topic, end_all_unless_done

RUN = "".join(random.choices(string.ascii_lowercase, k=6))
TOPIC = f"sensors-{RUN}"
WAIT = 20


def setUpModule():
    global node, producer, fresh
    end_all_unless_done(120)
    # A key of its own for every test, so that none sees another's records.
    fresh = (f"{number}/speed" for number in itertools.count(1))
    create_topic(TOPIC, 4)
    node = Node([TOPIC])
    unittest.addModuleCleanup(node.kill)
    producer = ConsoleProducer(TOPIC)
    unittest.addModuleCleanup(producer.close)


class Seen(SubscriptionEventHandler):
    """What a subscription tells, and a way to wait for it."""

    def __init__(self, decode):
        self.decode = decode
        self.publications, self.subscribed, self.ends = [], [], []
        self.changed = asyncio.Condition()

    async def _add(self, where, what):
        async with self.changed:
            where.append(what)
            self.changed.notify_all()

    async def on_publication(self, ctx):
        await self._add(self.publications, ctx.pub)

    async def on_subscribed(self, ctx):
        await self._add(self.subscribed, ctx)

    async def on_unsubscribed(self, ctx):
        await self._add(self.ends, ctx)

    @property
    def values(self):
        return [self.decode(publication.data) for publication in self.publications]

    async def count(self, what, wanted):
        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(lambda: len(what) >= wanted), WAIT)
            except asyncio.TimeoutError:
                raise AssertionError(f"{len(what)} of {wanted} within {WAIT} s; last: {what[-3:]}") from None


class Promises:
    """The promises, the same for both encodings."""

    async def connect(self, endpoint=None):
        client = Client(
            endpoint or node.websocket,
            events=ClientEventHandler(),
            use_protobuf=self.protobuf,
            proxy=None,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.2,
        )
        self.addAsyncCleanup(client.disconnect)
        await client.connect()
        await client.ready(WAIT)
        return client

    async def subscribe(self, client, subject, **options):
        seen = Seen(self.decode)
        subscription = client.new_subscription(subject, events=seen, min_resubscribe_delay=0.05, **options)
        await subscription.subscribe()
        await subscription.ready(WAIT)
        return subscription, seen

    async def refused(self, call, code):
        with self.assertRaises(ReplyError) as caught:
            await call
        self.assertEqual(caught.exception.code, code, caught.exception)

    async def test_records_of_kafka_arrive_in_order_with_headers(self):
        key = next(fresh)
        client = await self.connect()
        _, seen = await self.subscribe(client, f"/{TOPIC}/{key}")
        self.assertTrue(seen.subscribed[0].recoverable)
        for n in range(1, 101):
            producer.send(key, json.dumps({"n": n}), {"unit": "km/h"})
        await seen.count(seen.publications, 100)
        self.assertEqual(seen.values, [{"n": n} for n in range(1, 101)])
        self.assertEqual(seen.publications[0].tags, {"unit": "km/h"})
        offsets = [publication.offset for publication in seen.publications]
        self.assertEqual(offsets, sorted(set(offsets)))

    async def test_a_publish_is_acknowledged_and_delivered(self):
        client = await self.connect()
        subscription, seen = await self.subscribe(client, f"/{TOPIC}/{next(fresh)}")
        for n in range(1, 11):
            await subscription.publish(self.encode({"n": n}))
        await seen.count(seen.publications, 10)
        self.assertEqual(seen.values, [{"n": n} for n in range(1, 11)])

    async def test_history_pages_from_a_position_and_backwards(self):
        key = next(fresh)
        client = await self.connect()
        subscription, seen = await self.subscribe(client, f"/{TOPIC}/{key}")
        for n in range(1, 11):
            producer.send(key, json.dumps(n))
        await seen.count(seen.publications, 10)
        position = await subscription.history(limit=0)
        since = StreamPosition(offset=seen.publications[3].offset, epoch=position.epoch)

        def values(result):
            return [self.decode(publication.data) for publication in result.publications]

        self.assertEqual(values(await subscription.history(limit=3, since=since)), [5, 6, 7])
        self.assertEqual(values(await subscription.history(limit=3, reverse=True)), [10, 9, 8])
        other_log = StreamPosition(offset=since.offset, epoch="of-another-log")
        await self.refused(subscription.history(limit=3, since=other_log), 112)

    async def test_nothing_is_lost_or_doubled_when_the_socket_is_cut(self):
        key = next(fresh)
        proxy = await Proxy(node.port).start()
        self.addAsyncCleanup(proxy.close)
        client = await self.connect(proxy.websocket)
        _, seen = await self.subscribe(client, f"/{TOPIC}/{key}")
        numbers = itertools.count(1)
        for round in range(1, 5):
            for n in itertools.islice(numbers, 100):
                producer.send(key, json.dumps(n))
            proxy.cut()
            # Records that nobody hears at the moment they are made.
            for n in itertools.islice(numbers, 50):
                producer.send(key, json.dumps(n))
            await seen.count(seen.subscribed, round + 1)
            self.assertTrue(seen.subscribed[round].was_recovering)
            self.assertTrue(seen.subscribed[round].recovered)
        producer.send(key, json.dumps(next(numbers)))
        await seen.count(seen.publications, 601)
        self.assertEqual(seen.values, list(range(1, 602)))
        self.assertGreaterEqual(proxy.accepted, 5)

    async def test_a_snapshot_brings_the_newest_record_and_a_tombstone_its_tag(self):
        key = next(fresh)
        client = await self.connect()
        _, live = await self.subscribe(client, f"/{TOPIC}/{key}")
        for n in range(1, 4):
            producer.send(key, json.dumps(n))
        await live.count(live.publications, 3)
        second = await self.connect()
        _, seen = await self.subscribe(second, f"/{TOPIC}/{key}", data=self.encode({"snapshot": True}))
        await seen.count(seen.publications, 1)
        producer.send(key, None)
        await seen.count(seen.publications, 2)
        self.assertEqual(seen.values, [3, None])
        self.assertEqual(seen.publications[1].tags["corespan.removed"], "true")

    async def test_many_subscriptions_each_get_their_own_records(self):
        client = await self.connect()
        keys = list(itertools.islice(fresh, 200))
        all_seen = [seen for _, seen in await asyncio.gather(*(self.subscribe(client, f"/{TOPIC}/{key}") for key in keys))]
        for key in keys:
            producer.send(key, json.dumps(key))
        for key, seen in zip(keys, all_seen):
            await seen.count(seen.publications, 1)
            self.assertEqual(seen.values, [key])

    async def test_errors_carry_their_codes(self):
        client = await self.connect()
        for subject, code in ((f"/nowhere-{RUN}/1", 102), ("no-slash", 107), (f"/{TOPIC}//1", 107), (f"/{TOPIC}/", 107)):
            seen = Seen(self.decode)
            subscription = client.new_subscription(subject, events=seen)
            await subscription.subscribe()
            await seen.count(seen.ends, 1)
            self.assertEqual(seen.ends[0].code, code, subject)
            with self.assertRaises(CentrifugeError):
                await subscription.ready(1)
        data = self.encode({"n": 1})
        await self.refused(client.publish(f"/nowhere-{RUN}/1", data), 102)
        await self.refused(client.publish(f"/{TOPIC}//1", data), 107)
        await self.refused(client.publish(f"/{TOPIC}/1", self.encode("x" * 1_500_000)), 106)
        await self.refused(client.rpc("no.such.method", data), 104)
        await self.refused(client.presence(f"/{TOPIC}/1"), 108)
        await client.publish(f"/{TOPIC}/1", data)


class JsonTest(Promises, LimitedTest):
    protobuf = False

    @staticmethod
    def encode(value):
        return value

    @staticmethod
    def decode(data):
        return data


class ProtobufTest(Promises, LimitedTest):
    protobuf = True

    @staticmethod
    def encode(value):
        return json.dumps(value).encode()

    @staticmethod
    def decode(data):
        return json.loads(data) if data else None
