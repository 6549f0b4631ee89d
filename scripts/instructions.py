#!/usr/bin/env python3
"""Counts what a record and a delivery cost the core, and compares with the ceilings in benches/instructions.txt.

    scripts/instructions.py            builds, counts and compares; exits with 1 if something is over its ceiling
    scripts/instructions.py --write    makes what is counted now the ceilings

Allocations are those of the case itself. Instructions are counted by callgrind, so the machine's load is not in them; its CPU is, a little: which
memcpy libc takes (pinned below) and what crates choose at run time. Ceilings of another compiler are shown, and not held against anybody.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
CEILINGS = TOP / "benches" / "instructions.txt"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
PROGRAM = TARGET / "debug" / "examples" / "instructions"
# What is divided by: what most of the case's work is done for.
CASES = {
    "unique": "delivery",
    "fan-out": "delivery",
    "fan-out-protobuf": "delivery",
    "nobody": "record",
    "coalesced": "delivery",
    "binary": "delivery",
    "catch-up": "delivery",
}
# Of a count: what differs from run to run and from CPU to CPU, see benches/README.md.
TOLERANCE = 0.01
# Stage histograms and the clock may be so much of what the core does for a delivery, the system call not counted.
LOOKS_SHARE_MAX = {"unique": 0.01, "fan-out": 0.01}
# libc's functions without vector extensions that only some CPUs have.
TUNABLES = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX2_Usable,-AVX,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load"
BUILD_SECONDS = 1500
CASE_SECONDS = 120


def fail(text):
    print(f"instructions: {text}", file=sys.stderr)
    sys.exit(1)


def run(what, seconds, *command, **settings):
    try:
        done = subprocess.run(command, cwd=TOP, timeout=seconds, stdin=subprocess.DEVNULL, **settings)
    except subprocess.TimeoutExpired:
        fail(f"{what} ran over its limit of {seconds} s and was ended")
    except FileNotFoundError:
        fail(f"{command[0]} is missing; ./dev setup valgrind installs valgrind")
    if done.returncode != 0:
        fail(f"{what} failed with {done.returncode}\n{done.stderr or ''}")
    return done


def build():
    run("cargo build", BUILD_SECONDS, "cargo", "build", "--config", "benches/counted.toml", "--example", "instructions")


def plain(*arguments):
    """What a case prints: records, deliveries, looks and allocations."""
    out = run(arguments[0], CASE_SECONDS, PROGRAM, *arguments, capture_output=True, text=True).stdout
    counts = dict(word.split("=") for word in out.split())
    return {name: int(count) for name, count in counts.items() if name != "case"}


def instructions(case, folder):
    """Instructions in `measured`, from callgrind."""
    settings = {"capture_output": True, "text": True, "env": {**os.environ, "GLIBC_TUNABLES": TUNABLES}}
    out = run(
        f"callgrind on {case}", CASE_SECONDS, "valgrind", "--tool=callgrind", "--toggle-collect=*measured*", f"--callgrind-out-file={folder}/{case}", PROGRAM, case, **settings
    )
    collected = re.search(r"Collected : (\d+)", out.stderr)
    if not collected or int(collected[1]) == 0:
        fail(f"callgrind counted nothing in {case}:\n{out.stderr}")
    return int(collected[1])


def read_ceilings():
    """The compiler, and a row for each case; nothing if there is no file yet."""
    if not CEILINGS.exists():
        return None, {}
    lines = [line for line in CEILINGS.read_text().splitlines() if line and not line.startswith("#")]
    rows = {row[0]: row[1:] for row in map(str.split, lines[1:])}
    return lines[0], rows


def write_ceilings(compiler, rows):
    text = "# What a record and a delivery may cost the core: written by scripts/instructions.py --write, explained in benches/README.md.\n"
    text += f"{compiler}\n#{'case':<19}{'unit':<10}{'instructions':>14}{'allocations per record':>24}{'per delivery':>14}\n"
    for case, row in rows.items():
        text += f"{case:<20}{row['unit']:<10}{row['instructions']:>14.1f}{row['per_record']:>24.4f}{row['per_delivery']:>14.4f}\n"
    CEILINGS.write_text(text)


def main():
    if sys.argv[1:] not in ([], ["--write"]):
        fail("unknown argument; usage: scripts/instructions.py [--write]")
    write = bool(sys.argv[1:])
    compiler = run("rustc --version", 60, "rustc", "--version", capture_output=True, text=True).stdout.strip()
    build()
    ceilings_of, ceilings = read_ceilings()
    same_compiler = compiler == ceilings_of
    rows, wrong = {}, []
    with tempfile.TemporaryDirectory() as folder:
        look = instructions("looks", folder) / plain("looks")["looks"]
        print(f"a look at the clock, with what is recorded: {look:.1f} instructions")
        print(f"{'case':<18}{'unit':<10}{'instructions':>12}{'ceiling':>10}{'allocations per record':>24}{'per delivery':>14}{'looks':>8}")
        for case, unit in CASES.items():
            counts = plain(case)
            units = counts["records"] if unit == "record" else counts["deliveries"]
            if units == 0:
                fail(f"{case} had no {unit}: it measures nothing")
            total = instructions(case, folder)
            row = {
                "unit": unit,
                "instructions": total / units,
                "per_record": counts["allocations"] / counts["records"],
                "per_delivery": counts["allocations"] / max(counts["deliveries"], 1),
            }
            rows[case] = row
            share = counts["looks"] * look / total
            ceiling = ceilings.get(case)
            print(
                f"{case:<18}{unit:<10}{row['instructions']:>12.1f}{ceiling[1] if ceiling else '-':>10}"
                f"{row['per_record']:>24.4f}{row['per_delivery']:>14.4f}{share:>8.2%}"
            )
            if share > LOOKS_SHARE_MAX.get(case, 1):
                wrong.append(f"{case}: the clock and the stage histograms are {share:.2%} of the core's part, {LOOKS_SHARE_MAX[case]:.0%} at most: see src/shard/stages.rs")
            if not ceiling:
                if not write:
                    wrong.append(f"{case} has no ceiling: scripts/instructions.py --write")
                continue
            if same_compiler and row["instructions"] > float(ceiling[1]) * (1 + TOLERANCE):
                wrong.append(
                    f"{case}: {row['instructions']:.1f} instructions per {unit}, the ceiling is {ceiling[1]}"
                    f" ({row['instructions'] / float(ceiling[1]) - 1:+.1%}); if that is meant: scripts/instructions.py --write"
                )
            for name, value, limit in (("record", row["per_record"], ceiling[2]), ("delivery", row["per_delivery"], ceiling[3])):
                if round(value, 4) > float(limit):
                    wrong.append(f"{case}: {value:.4f} allocations per {name}, the ceiling is {limit}; if that is meant: scripts/instructions.py --write")
        # Subscribers allocate nothing: twice as many make no difference.
        for case in ("fan-out", "fan-out-protobuf"):
            few, many = plain(case, "1000"), plain(case, "2000")
            if many["deliveries"] != 2 * few["deliveries"]:
                fail(f"{case}: {few['deliveries']} deliveries to 1000 clients and {many['deliveries']} to 2000")
            more = (many["allocations"] - few["allocations"]) / (many["deliveries"] - few["deliveries"])
            print(f"{case}: {few['allocations']} allocations with 1000 subscribers, {many['allocations']} with 2000: {more:g} for each more")
            if more > 0:
                wrong.append(f"{case}: {more:g} allocations for each subscriber more; there must be none")
    if write:
        write_ceilings(compiler, rows)
        print(f"written to {CEILINGS.relative_to(TOP)}")
        wrong = [line for line in wrong if "--write" not in line]
    elif not same_compiler:
        print(f"the ceilings of instructions are for {ceilings_of}, this is {compiler}: counts are shown only, allocations are checked")
    for line in wrong:
        print(f"instructions: {line}", file=sys.stderr)
    sys.exit(bool(wrong))


main()
