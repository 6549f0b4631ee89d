"""The interval log of corespan-bench, read by HdrHistogram's own reader for Python: the format is theirs, and so is the judgement."""

import asyncio
import json
import subprocess
import tempfile
import time
from pathlib import Path

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from websockets.asyncio.server import serve

from support import LimitedTest, needed, start

RECORDS = 500
# The longest latency that the log can hold, as the reader is told it.
LATENCY_MAX_US = 600_000_000


async def feed(socket):
    """Record n was due n ms before it is sent: so long at least it took, and as the last one longest."""
    await socket.recv()
    for number in range(1, RECORDS + 1):
        due = time.time_ns() // 1_000 - number * 1_000
        await socket.send(json.dumps({"due": due, "n": number, "from": "test"}))
        # Over more than a second, so that there is more than one interval.
        await asyncio.sleep(0.003)
    await socket.wait_closed()


def intervals(log):
    total = HdrHistogram(1, LATENCY_MAX_US, 3)
    reader = HistogramLogReader(str(log), total)
    read = []
    while (histogram := reader.get_next_interval_histogram()) is not None:
        read.append(histogram)
        total.add(histogram)
    reader.close()
    return read, total


class BenchLog(LimitedTest):
    async def test_every_interval_is_read_and_they_add_up_to_what_the_report_says(self):
        bench = needed("CORESPAN_TEST_BENCH")
        with tempfile.TemporaryDirectory() as folder:
            log, report = Path(folder, "sub.hlog"), Path(folder, "sub.json")
            async with serve(feed, "127.0.0.1", 0) as server:
                url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/feed"
                command = [bench, "sub", "--url", url, "--subject", "a", "--subscribe-message", "SUBSCRIBE {subject}", "--expect", str(RECORDS)]
                command += ["--warm-up-seconds", "0", "--seconds", "40", "--lag-max-ms", "10000", "--log", str(log), "--report", str(report)]
                tool = start(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                printed, _ = await asyncio.to_thread(tool.communicate, timeout=50)
            self.assertEqual(tool.returncode, 0, printed)
            told = json.loads(report.read_text())
            read, total = intervals(log)
        self.assertGreater(len(read), 1)
        self.assertEqual([histogram.get_total_count() for histogram in read], [second["count"] for second in told["series"]])
        self.assertEqual(total.get_total_count(), RECORDS)
        self.assertEqual(told["latency_us"]["count"], RECORDS)
        # Both round to three digits, each in its own way.
        for name, percentile in (("p50", 50), ("p90", 90), ("p99", 99), ("p100", 100)):
            theirs, ours = total.get_value_at_percentile(percentile), told["latency_us"][name]
            self.assertLessEqual(abs(theirs - ours), ours / 500, f"{name}: {theirs} read, {ours} in the report")
        self.assertGreaterEqual(total.get_max_value() * 1.001, RECORDS * 1_000)
