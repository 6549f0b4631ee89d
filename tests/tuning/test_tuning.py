"""The folder tuning/: on made-up machines, and in network namespaces of the test's own. Nothing of this machine is written. See ./dev test tuning.

A made-up machine is a folder with sys/ and proc/, which corespan-tune takes in place of / (CORESPAN_TUNE_ROOT). Its files keep what is written to them, but
for those of choices ("always [madvise] never"): `Machine.settle` does with those what the kernel does, and refuses what it refuses.
"""

import configparser
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TUNING = TOP / "tuning"
TUNE = TUNING / "corespan-tune"
SYSCTL = TUNING / "60-corespan.conf"
ITEMS = ["governor", "cstates", "irq", "steering", "hugepages", "numa", "sysctl"]
# A mount and a network namespace of their own; without root, inside a user namespace.
UNSHARE = ["unshare", "--mount", "--net"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
SECONDS = 60


def run(*command, check=True, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def sysctl_keys(text, commented=False):
    """KEY: VALUE of a sysctl.d file, with those that are commented out if asked for."""
    keys = {}
    for line in text.splitlines():
        if commented:
            line = re.sub(r"^#-?(?=(net|fs)\.[a-z0-9_.]+ = )", "", line)
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        key, value = line.split("=", 1)
        keys[key.strip().removeprefix("-")] = value.strip()
    return keys


class Machine:
    """Four CPUs on two cores, one NUMA node, a NIC with four queues, cpufreq and cpuidle."""

    def __init__(self, cpus=4, siblings=2, nodes=1, queues=4, cpufreq=True, cpuidle=True, multiqueue=True, virtio=False, msi=True):
        self.folder = Path(tempfile.mkdtemp(prefix="corespan-tuning-"))
        self.choices = {}
        self.settled = {}
        cpu = "sys/devices/system/cpu"
        self.write(f"{cpu}/online", f"0-{cpus - 1}\n")
        for number in range(cpus):
            mine = f"{cpu}/cpu{number}"
            core = number - number % siblings
            self.write(f"{mine}/topology/thread_siblings_list", f"{core}-{core + siblings - 1}\n" if siblings > 1 else f"{core}\n")
            if cpufreq:
                # One policy for both threads of a core: the same files under two names.
                policy = f"{cpu}/cpufreq/policy{core}"
                self.write(f"{policy}/scaling_available_governors", "performance powersave\n")
                self.write(f"{policy}/scaling_governor", "powersave\n")
                self.write(f"{policy}/energy_performance_preference", "balance_performance\n")
                self.link(f"{mine}/cpufreq", f"../cpufreq/policy{core}")
            if cpuidle:
                for state, latency in enumerate([0, 2, 10, 133]):
                    self.write(f"{mine}/cpuidle/state{state}/latency", f"{latency}\n")
                    self.write(f"{mine}/cpuidle/state{state}/disable", "0\n")
            node = number * nodes // cpus
            self.link(f"{mine}/node{node}", f"../../node/node{node}")
            self.write(f"sys/devices/system/node/node{node}/cpulist", "\n")
        pci = "sys/devices/pci0000:00/0000:00:05.0"
        device = f"{pci}/virtio1" if virtio else pci
        self.write(f"{device}/numa_node", "0\n")
        self.nic = f"{device}/net/eth0"
        self.link("sys/class/net/eth0", f"../../../{self.nic}")
        self.link(f"{self.nic}/device", "../..")
        interrupts = "            CPU0\n"
        # Numbers with different numbers of digits: they are put in the order of numbers.
        for index, number in enumerate(range(98, 98 + queues)):
            if msi:
                self.write(f"{pci}/msi_irqs/{number}", "msix\n")
            self.write(f"proc/irq/{number}/smp_affinity_list", f"0-{cpus - 1}\n")
            interrupts += f" {number}:   12   PCI-MSI 32768-edge   eth0-TxRx-{index}\n"
        self.write("proc/irq/7/smp_affinity_list", f"0-{cpus - 1}\n")
        self.write("proc/interrupts", interrupts + "   7:    1   IO-APIC 7-edge   eth01\n")
        for queue in range(queues):
            self.write(f"{self.nic}/queues/rx-{queue}/rps_cpus", "00000000\n")
            self.write(f"{self.nic}/queues/rx-{queue}/rps_flow_cnt", "0\n")
            self.write(f"{self.nic}/queues/tx-{queue}/xps_cpus", f"{1 << queue % cpus:08x}\n")
        pages = "sys/kernel/mm/transparent_hugepage"
        self.choice(f"{pages}/enabled", "[always] madvise never\n")
        self.choice(f"{pages}/defrag", "always defer [defer+madvise] madvise never\n")
        self.write(f"{pages}/khugepaged/defrag", "1\n")
        self.write("proc/sys/kernel/numa_balancing", "1\n")
        self.write("proc/sys/vm/zone_reclaim_mode", "0\n")
        self.write("proc/sys/net/core/rps_sock_flow_entries", "0\n")
        for key in sysctl_keys(SYSCTL.read_text()):
            self.write("proc/sys/" + key.replace(".", "/"), "1\t2\t3\n" if "mem" in key else "77\n")

    def write(self, path, text):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def link(self, path, to):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(to)

    def choice(self, path, text):
        self.write(path, text)
        self.choices[path] = re.sub(r"[\[\]\n]", "", text).split()
        self.settled[path] = (self.folder / path).stat().st_mtime_ns

    def read(self, path):
        return (self.folder / path).read_text()

    def tree(self):
        """Every file and its bytes, every link and where it leads, every folder."""
        tree = {}
        for folder, folders, files in os.walk(self.folder):
            for name in folders + files:
                path = Path(folder, name)
                what = os.readlink(path) if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes()
                tree[str(path.relative_to(self.folder))] = what
        return tree

    def settle(self):
        """What the kernel does with a choice that was written: shows it among the others, and refuses what is none."""
        for path, choices in self.choices.items():
            written = (self.folder / path).stat().st_mtime_ns
            if written != self.settled[path]:
                chosen = self.read(path).removesuffix("\n")
                assert chosen in choices, f"the kernel refuses {chosen!r} for {path}"
                self.write(path, " ".join(f"[{choice}]" if choice == chosen else choice for choice in choices) + "\n")
                self.settled[path] = (self.folder / path).stat().st_mtime_ns

    def tune(self, *arguments, check=True, before=(), **environment):
        done = run(*before, TUNE, *arguments, check=check, env=os.environ | {"CORESPAN_TUNE_ROOT": str(self.folder)} | environment)
        self.settle()
        return done

    def remove(self):
        shutil.rmtree(self.folder)


class TuneTest(unittest.TestCase):
    def machine(self, **shape):
        machine = Machine(**shape)
        self.addCleanup(machine.remove)
        return machine

    def options(self, item, cpus="2-3"):
        return {
            "governor": ["--cpus", cpus],
            "cstates": ["--cpus", cpus],
            "irq": ["--cpus", cpus, "--nic", "eth0"],
            "steering": ["--cpus", cpus, "--nic", "eth0"],
        }.get(item, [])

    def changed(self, machine, before):
        """Files that are not what they were, outside of what the script keeps for itself."""
        after = machine.tree()
        self.assertEqual([path for path in before if path not in after], [])
        new = {path for path in after if path not in before}
        self.assertEqual({path for path in new if not (path + "/").startswith("run/")}, set())
        return {path: after[path].decode().strip() for path in before if after[path] != before[path]}


class EachItem(TuneTest):
    def test_every_item_on_every_machine_gives_back_every_byte(self):
        shapes = {
            "four CPUs with SMT": {},
            "no cpufreq": {"cpufreq": False},
            "no cpuidle": {"cpuidle": False},
            "two nodes": {"nodes": 2, "cpus": 8},
            "virtio": {"virtio": True, "cpufreq": False, "cpuidle": False},
            "no MSI": {"msi": False},
            "one queue": {"queues": 1},
            "no queues": {"queues": 0},
            "a hundred CPUs": {"cpus": 100, "siblings": 1, "queues": 8},
        }
        for name, shape in shapes.items():
            machine = self.machine(**shape)
            before = machine.tree()
            for item in ITEMS:
                with self.subTest(machine=name, item=item):
                    machine.tune(item, "apply", *self.options(item))
                    machine.tune(item, "undo")
                    after = machine.tree()
                    after.pop("run", None)
                    self.assertEqual(after, before)

    def test_all_items_together_are_undone_in_any_order(self):
        for order in (ITEMS, ITEMS[::-1]):
            machine = self.machine(nodes=2)
            before = machine.tree()
            for item in ITEMS:
                machine.tune(item, "apply", *self.options(item))
            self.assertGreater(len(self.changed(machine, before)), 25)
            for item in order:
                machine.tune(item, "undo")
            self.assertEqual(machine.tree(), before | {"run": "folder"})

    def test_governor_sets_only_the_cpus_that_are_named(self):
        machine = self.machine()
        before = machine.tree()
        machine.tune("governor", "apply", "--cpus", "2-3")
        policy = "sys/devices/system/cpu/cpufreq/policy2"
        self.assertEqual(self.changed(machine, before), {f"{policy}/scaling_governor": "performance", f"{policy}/energy_performance_preference": "performance"})

    def test_governor_writes_the_preference_first_and_gives_it_back_last(self):
        # As intel_pstate wants it: under the governor "performance" it takes no other preference.
        machine = self.machine(siblings=1)
        lines = machine.tune("governor", "apply", "--cpus", "3").stdout.splitlines()
        self.assertEqual([line.split(": ")[0].rsplit("/")[-1] for line in lines], ["energy_performance_preference", "scaling_governor"])
        lines = machine.tune("governor", "undo").stdout.splitlines()
        self.assertEqual([line.split(": ")[0].rsplit("/")[-1] for line in lines], ["scaling_governor", "energy_performance_preference"])

    def test_cstates_switches_off_the_states_over_the_limit(self):
        machine = self.machine()
        before = machine.tree()
        machine.tune("cstates", "apply", "--cpus", "1,3")
        cpu = "sys/devices/system/cpu"
        self.assertEqual(self.changed(machine, before), {f"{cpu}/cpu1/cpuidle/state3/disable": "1", f"{cpu}/cpu3/cpuidle/state3/disable": "1"})
        machine.tune("cstates", "undo")
        machine.tune("cstates", "apply", "--cpus", "1", "--latency-us", "2")
        self.assertEqual(self.changed(machine, before), {f"{cpu}/cpu1/cpuidle/state{state}/disable": "1" for state in (2, 3)})

    def test_irq_gives_each_interrupt_of_the_nic_a_cpu_in_turn(self):
        for shape in ({}, {"virtio": True}, {"msi": False}):
            machine = self.machine(**shape)
            before = machine.tree()
            machine.tune("irq", "apply", "--cpus", "1-3", "--nic", "eth0")
            self.assertEqual(self.changed(machine, before), {f"proc/irq/{98 + index}/smp_affinity_list": cpu for index, cpu in enumerate("1231")})

    def test_steering_adds_rps_only_where_queues_are_fewer_than_cpus(self):
        for queues, rps in ((4, set()), (2, {"0000000e"}), (1, {"0000000e"})):
            machine = self.machine(queues=queues)
            before = machine.tree()
            machine.tune("steering", "apply", "--cpus", "1-3", "--nic", "eth0")
            changed = self.changed(machine, before)
            self.assertEqual({value for path, value in changed.items() if path.endswith("rps_cpus")}, rps)
            self.assertEqual({value for path, value in changed.items() if path.endswith("rps_flow_cnt")}, {str(32768 // queues)})
            self.assertEqual(changed["proc/sys/net/core/rps_sock_flow_entries"], "32768")

    def test_steering_gives_each_cpu_one_queue_to_send(self):
        for queues, masks in ((4, ["00000002", "00000004", "00000008", "00000000"]), (2, ["0000000a", "00000004"]), (1, ["0000000e"])):
            machine = self.machine(queues=queues)
            machine.tune("steering", "apply", "--cpus", "1-3", "--nic", "eth0")
            self.assertEqual([machine.read(f"{machine.nic}/queues/tx-{queue}/xps_cpus").strip() for queue in range(queues)], masks)

    def test_masks_of_many_cpus_have_words_as_the_kernel_writes_them(self):
        machine = self.machine(cpus=100, siblings=1, queues=1)
        machine.tune("steering", "apply", "--cpus", "31,32,64-67,99", "--nic", "eth0")
        self.assertEqual(machine.read(f"{machine.nic}/queues/rx-0/rps_cpus"), "00000008,0000000f,00000001,80000000\n")

    def test_hugepages_are_for_those_who_ask_and_nobody_waits_for_compaction(self):
        machine = self.machine()
        machine.tune("hugepages", "apply")
        pages = "sys/kernel/mm/transparent_hugepage"
        self.assertEqual(machine.read(f"{pages}/enabled"), "always [madvise] never\n")
        self.assertEqual(machine.read(f"{pages}/defrag"), "always defer defer+madvise [madvise] never\n")
        self.assertEqual(machine.read(f"{pages}/khugepaged/defrag"), "0\n")
        machine.tune("hugepages", "apply", "--mode", "never")
        self.assertEqual(machine.read(f"{pages}/enabled"), "always madvise [never]\n")
        machine.tune("hugepages", "undo")
        self.assertEqual(machine.read(f"{pages}/enabled"), "[always] madvise never\n")

    def test_numa_says_which_cpus_are_far_from_the_nic(self):
        machine = self.machine(nodes=2)
        before = machine.tree()
        said = machine.tune("numa", "apply", "--cpus", "1-3", "--nic", "eth0").stdout
        self.assertIn("numa: eth0 is on node 0, and these CPUs are on another: 2 3", said)
        # zone_reclaim_mode is 0 already.
        self.assertEqual(self.changed(machine, before), {"proc/sys/kernel/numa_balancing": "0"})
        self.assertIn("all of these CPUs are on node 0", machine.tune("numa", "show", "--cpus", "0-1", "--nic", "eth0").stdout)

    def test_sysctl_sets_the_keys_of_its_file(self):
        machine = self.machine()
        machine.tune("sysctl", "apply")
        for key, value in sysctl_keys(SYSCTL.read_text()).items():
            self.assertEqual(machine.read("proc/sys/" + key.replace(".", "/")), value + "\n", key)

    def test_show_changes_nothing_and_names_what_was_before(self):
        machine = self.machine(nodes=2)
        before = machine.tree()
        for item in ITEMS:
            machine.tune(item, "show", *self.options(item))
        for item in ("governor", "cstates"):
            machine.tune(item, "show")
        self.assertEqual(machine.tree(), before)
        machine.tune("governor", "apply", "--cpus", "2")
        self.assertIn("scaling_governor: performance (before: powersave)", machine.tune("governor", "show").stdout)


class WhatIsAbsent(TuneTest):
    def test_what_a_machine_lacks_is_said_in_a_line_and_is_no_failure(self):
        bare = self.machine(cpufreq=False, cpuidle=False, queues=0)
        shutil.rmtree(bare.folder / "sys/kernel/mm")
        bare.choices = {}
        (bare.folder / "proc/sys/net/core/busy_poll").unlink()
        before = bare.tree()
        words = {
            "governor": "CPU 2 has no cpufreq",
            "cstates": "CPU 2 has no cpuidle",
            "irq": "eth0 has no interrupts of its own",
            "steering": "eth0 has no receive queues",
            "hugepages": "no transparent huge pages",
            "numa": "one node; nothing to do",
        }
        for item, said in words.items():
            self.assertIn(said, bare.tune(item, "apply", *self.options(item, cpus="2")).stdout)
        self.assertEqual(bare.tree(), before)
        self.assertIn("net/core/busy_poll here", bare.tune("sysctl", "apply").stdout)
        bare.tune("sysctl", "undo")
        self.assertEqual(bare.tree(), before | {"run": "folder"})

    def test_a_driver_without_the_governor_is_left_alone(self):
        machine = self.machine()
        machine.write("sys/devices/system/cpu/cpufreq/policy2/scaling_available_governors", "schedutil\n")
        before = machine.tree()
        self.assertIn('CPU 3 offers no governor "performance"', machine.tune("governor", "apply", "--cpus", "3").stdout)
        self.assertEqual(machine.tree(), before)

    def test_a_nic_that_is_gone_does_not_hinder_undo(self):
        machine = self.machine()
        entries = machine.read("proc/sys/net/core/rps_sock_flow_entries")
        machine.tune("steering", "apply", *self.options("steering"))
        (machine.folder / "sys/class/net/eth0").unlink()
        self.assertIn("is gone", machine.tune("steering", "undo").stdout)
        self.assertEqual(machine.read("proc/sys/net/core/rps_sock_flow_entries"), entries)
        self.assertIn("nothing to undo", machine.tune("steering", "undo").stdout)


class ApplyAndUndo(TuneTest):
    def test_applied_twice_keeps_the_first_state(self):
        for item in ITEMS:
            with self.subTest(item=item):
                machine = self.machine(nodes=2)
                before = machine.tree()
                machine.tune(item, "apply", *self.options(item, cpus="2"))
                machine.tune(item, "apply", *self.options(item, cpus="1-3"))
                machine.tune(item, "apply", *self.options(item, cpus="0"))
                machine.tune(item, "undo")
                self.assertEqual(machine.tree(), before | {"run": "folder"})

    def test_what_is_so_already_is_not_written(self):
        machine = self.machine()
        machine.tune("hugepages", "apply")
        times = {path: path.stat().st_mtime_ns for path in (machine.folder / "sys").rglob("*") if path.is_file()}
        self.assertIn("nothing to change", machine.tune("hugepages", "apply").stdout)
        self.assertEqual({path: path.stat().st_mtime_ns for path in times}, times)

    def test_undo_alone_and_undo_twice_do_nothing(self):
        machine = self.machine()
        before = machine.tree()
        for item in ITEMS:
            self.assertIn("nothing to undo", machine.tune(item, "undo").stdout)
        self.assertEqual(machine.tree(), before)

    def test_bytes_come_back_without_a_newline_and_with_blanks(self):
        machine = self.machine()
        machine.write("proc/irq/99/smp_affinity_list", "0-1,3")
        machine.write("proc/irq/100/smp_affinity_list", " 0 \n\n")
        before = machine.tree()
        machine.tune("irq", "apply", *self.options("irq"))
        machine.tune("irq", "undo")
        self.assertEqual(machine.tree(), before | {"run": "folder"})

    def test_only_root_reads_what_is_kept(self):
        machine = self.machine()
        machine.tune("governor", "apply", "--cpus", "2")
        self.assertEqual((machine.folder / "run/corespan-tune").stat().st_mode & 0o777, 0o700)


class WhenItFails(TuneTest):
    def read_only(self, machine, path):
        """A command that runs the next one where this file cannot be written, by root neither."""
        file = machine.folder / path
        return [*UNSHARE, "sh", "-ec", 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"', "sh", file]

    def test_a_failure_in_the_middle_gives_everything_back(self):
        last = {
            "governor": "sys/devices/system/cpu/cpufreq/policy2/scaling_governor",
            "cstates": "sys/devices/system/cpu/cpu3/cpuidle/state3/disable",
            "irq": "proc/irq/101/smp_affinity_list",
            "steering": "sys/devices/pci0000:00/0000:00:05.0/net/eth0/queues/tx-3/xps_cpus",
            "hugepages": "sys/kernel/mm/transparent_hugepage/khugepaged/defrag",
            "numa": "proc/sys/vm/zone_reclaim_mode",
            "sysctl": "proc/sys/fs/file-max",
        }
        for item, path in last.items():
            with self.subTest(item=item):
                machine = self.machine(nodes=2)
                machine.write("proc/sys/vm/zone_reclaim_mode", "1\n")
                before = machine.tree()
                done = machine.tune(item, "apply", *self.options(item), before=self.read_only(machine, path), check=False)
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertRegex(done.stderr, r"\Acorespan-tune: cannot write \S.* to \S+: Read-only file system; everything is as before\n\Z")
                self.assertEqual(machine.tree(), before | {"run": "folder"})

    def test_a_failure_of_a_second_apply_gives_back_what_the_first_had_made(self):
        machine = self.machine()
        before = machine.tree()
        machine.tune("cstates", "apply", "--cpus", "1")
        first = machine.tree()
        path = "sys/devices/system/cpu/cpu3/cpuidle/state3/disable"
        done = machine.tune("cstates", "apply", "--cpus", "1-3", "--latency-us", "2", before=self.read_only(machine, path), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(machine.tree(), first)
        machine.tune("cstates", "undo")
        self.assertEqual(machine.tree(), before | {"run": "folder"})

    def test_undo_that_cannot_write_keeps_the_state_and_undoes_the_rest(self):
        machine = self.machine()
        before = machine.tree()
        machine.tune("cstates", "apply", "--cpus", "1-3")
        path = "sys/devices/system/cpu/cpu2/cpuidle/state3/disable"
        done = machine.tune("cstates", "undo", before=self.read_only(machine, path), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot give back", done.stderr)
        self.assertEqual(self.changed(machine, before), {path: "1"})
        machine.tune("cstates", "undo")
        self.assertEqual(machine.tree(), before | {"run": "folder"})

    def test_killed_in_the_middle_is_undone_by_undo(self):
        machine = self.machine()
        before = machine.tree()
        self.assertEqual(self.end_in_the_middle(machine, signal.SIGKILL), -signal.SIGKILL)
        self.assertEqual(set(self.changed(machine, before)), {f"proc/irq/{number}/smp_affinity_list" for number in (98, 99, 100)})
        done = machine.tune("irq", "apply", *self.options("irq"), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is at work or was killed; 'corespan-tune irq undo' gives back", done.stderr)
        machine.tune("irq", "undo")
        self.assertEqual(machine.tree(), before | {"run": "folder"})

    def test_told_to_end_in_the_middle_gives_everything_back(self):
        machine = self.machine()
        before = machine.tree()
        self.assertEqual(self.end_in_the_middle(machine, signal.SIGTERM), 1)
        self.assertEqual(machine.tree(), before | {"run": "folder"})

    def end_in_the_middle(self, machine, number):
        """Sends a signal while the third of four interrupts is written, where a `printf` of the test's own waits; returns the exit code."""
        with tempfile.TemporaryDirectory() as folder:
            marker = Path(folder, "at-work")
            slow = Path(folder, "slow")
            slow.write_text(
                'printf() { builtin printf "$@"; local me=$BASHPID; case $(readlink "/proc/$me/fd/1") in */irq/100/*) : >'
                f'"{marker}"; sleep 1 ;; esac; }}\n'
            )
            process = subprocess.Popen(
                [TUNE, "irq", "apply", *self.options("irq")],
                env=os.environ | {"CORESPAN_TUNE_ROOT": str(machine.folder), "BASH_ENV": str(slow)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            until = time.monotonic() + SECONDS
            while not marker.exists():
                self.assertLess(time.monotonic(), until)
                time.sleep(0.01)
            # Killed with all that it has started; told to end alone, as by `kill`.
            os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
            return process.wait(SECONDS)


class CommandLine(TuneTest):
    def test_a_bad_argument_is_one_clear_line_and_exit_2(self):
        machine = self.machine()
        before = machine.tree()
        for arguments, words in (
            ([], "an item is missing"),
            (["wings", "apply"], "no item 'wings'; there are: governor"),
            (["governor"], "missing: apply, undo or show"),
            (["governor", "fly"], "no action 'fly'; there are: apply undo show"),
            (["governor", "apply"], "governor needs --cpus"),
            (["governor", "apply", "--cpus"], "--cpus needs a value"),
            (["governor", "apply", "--cpus", "2-"], "--cpus is a list such as 2-5,8, not '2-'"),
            (["governor", "apply", "--cpus", "3-2"], "not '3-2'"),
            (["governor", "apply", "--cpus", "$(reboot)"], "not '$(reboot)'"),
            (["governor", "apply", "--cpus", "08"], "not '08'"),
            (["governor", "apply", "--cpus", "1-99999999999999999999"], "not '1-9"),
            (["governor", "apply", "--cpus", "4"], "names CPU 4, and this machine has no"),
            (["governor", "apply", "--cores", "4"], "no option '--cores'"),
            (["irq", "apply", "--cpus", "2"], "irq needs --nic"),
            (["steering", "show"], "steering needs --nic"),
            (["irq", "apply", "--cpus", "2", "--nic", "eth9"], "names eth9, and there is no"),
            (["irq", "apply", "--cpus", "2", "--nic", "../net/eth0"], "--nic is a name"),
            (["cstates", "apply", "--cpus", "2", "--latency-us", "-1"], "--latency-us is 0 to 1000000"),
            (["steering", "apply", "--cpus", "2", "--nic", "eth0", "--flows", "1000"], "--flows is a power of two"),
            (["hugepages", "apply", "--mode", "maybe"], "--mode is madvise, never or always"),
        ):
            done = machine.tune(*arguments, check=False)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertEqual(done.stdout, "", arguments)
            self.assertRegex(done.stderr, r"\Acorespan-tune: [^\n]* \(corespan-tune help\)\n\Z")
            self.assertIn(words, done.stderr)
        self.assertEqual(machine.tree(), before)

    def test_help_names_every_item_and_option(self):
        words = run(TUNE, "help").stdout
        for word in ITEMS + ["--cpus", "--nic", "--latency-us", "--flows", "--mode", "--file", "CORESPAN_TUNE_ROOT", "CORESPAN_TUNE_STATE"]:
            self.assertIn(word, words)

    def test_a_line_of_a_sysctl_file_that_is_none_is_named_before_anything_is_written(self):
        machine = self.machine()
        machine.write("bad.conf", "net.core.somaxconn = 5\n../../../etc/passwd = x\n")
        before = machine.tree()
        done = machine.tune("sysctl", "apply", "--file", machine.folder / "bad.conf", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("bad.conf, line 2: not KEY = VALUE", done.stderr)
        self.assertEqual(machine.tree(), before)

    def test_without_root_it_says_so_in_one_line(self):
        machine = self.machine()
        for path in [machine.folder, *machine.folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o555 | (0o555 if path.is_dir() else 0o444))
        before = machine.tree()
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
        # A copy that anybody can reach.
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            shutil.copy(TUNE, folder)
            done = run(*nobody, f"{folder}/corespan-tune", "governor", "apply", "--cpus", "2", check=False, env=os.environ | {"CORESPAN_TUNE_ROOT": str(machine.folder)})
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"\Acorespan-tune: cannot make \S+/run/corespan-tune \(are you root\?\)\n\Z")
        self.assertEqual(machine.tree(), before)
        for path in [machine.folder, *machine.folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


class InANamespace(unittest.TestCase):
    """On this machine's kernel, in a network namespace that ends with the command."""

    @classmethod
    def setUpClass(cls):
        cls.keys = sysctl_keys(SYSCTL.read_text())
        # A key that a new network namespace has, and lets its root write, is its own: the kernel makes those that are the host's read-only there,
        # or does not show them. What is not under net. is never the namespace's.
        names = [key for key in cls.keys if key.startswith("net.")]
        script = 'for key; do [ ! -w "/proc/sys/$(echo "$key" | tr . /)" ] || echo "$key"; done'
        cls.own = run(*UNSHARE, "sh", "-c", script, "sh", *names).stdout.split()
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.file = Path(cls.folder.name, "own.conf")
        lines = [line for line in SYSCTL.read_text().splitlines() if line.startswith("#") or set(sysctl_keys(line)) <= set(cls.own)]
        cls.file.write_text("\n".join(lines) + "\n")

    def host(self):
        return {key: Path("/proc/sys", key.replace(".", "/")).read_text() for key in self.keys if Path("/proc/sys", key.replace(".", "/")).exists()}

    def values(self, text):
        return [" ".join(line.split()) for line in text.splitlines()]

    def test_sysctl_takes_the_file_and_the_host_does_not_change(self):
        for key in ("net.core.somaxconn", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_notsent_lowat"):
            self.assertIn(key, self.own)
        before = self.host()
        script = 'sysctl --quiet -p "$1"; shift; sysctl -n "$@"'
        values = run(*UNSHARE, "sh", "-ec", script, "sh", self.file, *self.own).stdout
        self.assertEqual(self.values(values), [self.keys[key] for key in self.own])
        self.assertEqual(self.host(), before)

    def test_a_key_that_the_kernel_lacks_does_not_keep_the_others_from_being_set(self):
        # As busy_poll in a kernel without it; here the first line, so that all others come after it.
        file = Path(self.folder.name, "lacks.conf")
        file.write_text("-net.core.no_such_key = 1\n" + self.file.read_text())
        script = 'sysctl --quiet -p "$1" 2>/dev/null; shift; sysctl -n "$@"'
        values = run(*UNSHARE, "sh", "-c", script, "sh", file, *self.own).stdout
        self.assertEqual(self.values(values), [self.keys[key] for key in self.own])

    def test_corespan_tune_sets_them_and_undo_gives_them_back(self):
        script = """
            tune=$1 file=$2; shift 2
            sysctl -n "$@"; echo --
            "$tune" sysctl apply --file "$file" >/dev/null; sysctl -n "$@"; echo --
            "$tune" sysctl undo >/dev/null; sysctl -n "$@"
        """
        environment = {key: value for key, value in os.environ.items() if key != "CORESPAN_TUNE_ROOT"} | {"CORESPAN_TUNE_STATE": f"{self.folder.name}/state"}
        before, applied, after = run(*UNSHARE, "sh", "-ec", script, "sh", TUNE, self.file, *self.own, env=environment).stdout.split("--\n")
        self.assertEqual(self.values(applied), [self.keys[key] for key in self.own])
        self.assertNotEqual(before, applied)
        self.assertEqual(after, before)
        self.assertFalse(Path(self.folder.name, "state").exists())

    def steer(self, queues):
        """Steering on a virtual NIC that the kernel really has: its queues before, with, and after it, and what apply said."""
        script = """
            root=$1 tune=$2 queues=$3
            mkdir -p "$root/sys" "$root/proc/sys/net/core"
            echo 0 >"$root/proc/sys/net/core/rps_sock_flow_entries"
            ip link add try0 numrxqueues $queues numtxqueues $queues type veth peer name try1
            mount -t sysfs sysfs "$root/sys"
            look() {
                cd "$root/sys/class/net/try0/queues"
                for file in rx-*/rps_cpus rx-*/rps_flow_cnt tx-*/xps_cpus; do echo "$file $(cat $file 2>/dev/null | sed 's/^[0,]*//')"; done
                cd /
            }
            export CORESPAN_TUNE_ROOT=$root
            look; echo --
            "$tune" steering apply --cpus 0 --nic try0 --flows 4096; echo --
            look; echo --
            "$tune" steering undo >/dev/null; look; cat "$root/proc/sys/net/core/rps_sock_flow_entries"
        """
        with tempfile.TemporaryDirectory() as root:
            done = run(*UNSHARE, "sh", "-ec", script, "sh", root, TUNE, queues, check=os.geteuid() == 0)
        if os.geteuid() != 0:
            # The kernel lets only the host's root steer: what is seen then is that it is said, and nothing else changed.
            self.assertRegex(done.stderr, r"\Acorespan-tune: cannot write \d+ to \S+/rps_flow_cnt: Operation not permitted; everything is as before\n\Z")
            return None
        before, said, applied, after = done.stdout.split("--\n")
        self.assertEqual(after, before + "0\n")
        return said, dict(line.split(" ") for line in applied.splitlines())

    def test_steering_is_taken_by_the_queues_of_a_real_kernel_and_undone(self):
        steered = self.steer(4)
        if steered is None:
            return
        applied = steered[1]
        for queue in range(4):
            self.assertEqual(applied[f"rx-{queue}/rps_flow_cnt"], "1024")
            self.assertEqual(applied[f"tx-{queue}/xps_cpus"], "1" if queue == 0 else "")

    def test_a_nic_with_one_queue_has_no_xps_and_steering_goes_on(self):
        steered = self.steer(1)
        if steered is None:
            return
        said, applied = steered
        self.assertIn("xps_cpus has no value here", said)
        self.assertEqual(applied["rx-0/rps_flow_cnt"], "4096")


class Files(unittest.TestCase):
    """What is for others to read: procps, systemd, tuned, and people."""

    def test_every_key_exists_here_or_may_be_absent_and_has_numbers(self):
        text = SYSCTL.read_text()
        for key, value in sysctl_keys(text, commented=True).items():
            self.assertRegex(value, r"\A\d+( \d+)*\Z", key)
            if f"-{key} " not in text:
                self.assertTrue(Path("/proc/sys", key.replace(".", "/")).exists(), key)
        for line in text.splitlines():
            self.assertRegex(line, r"\A(#.*|-?[a-z0-9_.-]+ = [0-9 ]+|)\Z")

    def test_values_are_those_of_the_source(self):
        keys = sysctl_keys(SYSCTL.read_text())
        backlog = re.search(r"const BACKLOG: i32 = (\d+);", (TOP / "src/net/listener.rs").read_text())[1]
        self.assertEqual(keys["net.core.somaxconn"], backlog)
        unsent = int(re.search(r"not_sent_bytes: (\d+) << 10,", (TOP / "src/net/settings.rs").read_text())[1]) << 10
        self.assertEqual(int(keys["net.ipv4.tcp_notsent_lowat"]), unsent)
        unit = (TOP / "systemd/corespan.service").read_text()
        self.assertGreater(int(sysctl_keys(SYSCTL.read_text(), commented=True)["fs.nr_open"]), int(re.search(r"LimitNOFILE=(\d+)", unit)[1]))
        for port in (8800, 8801, 9092):
            self.assertLess(port, int(keys["net.ipv4.ip_local_port_range"].split()[0]))

    def test_the_tuned_profile_sets_what_the_scripts_set(self):
        profile = configparser.ConfigParser(interpolation=None)
        profile.optionxform = str
        profile.read_string((TUNING / "tuned/corespan/tuned.conf").read_text())
        self.assertEqual(set(profile.sections()), {"main", "vm", "sysctl"})
        self.assertEqual(profile["main"]["include"], "latency-performance")
        self.assertEqual(profile["vm"]["transparent_hugepages"], "madvise")
        self.assertEqual(dict(profile["sysctl"]), sysctl_keys(SYSCTL.read_text()) | {"kernel.numa_balancing": "0"})

    def test_systemd_knows_every_word_of_the_units(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            unit = (TOP / "systemd/corespan.service").read_text()
            # Only the words are looked at: the program need not be there.
            (folder / "corespan.service").write_text(unit.replace("/usr/bin/corespan", "/bin/true"))
            shutil.copy(TUNING / "systemd/corespan.slice", folder)
            for drop_ins, names in (("corespan.service.d", ["10-cpus.conf", "20-slice.conf"]), ("corespan.slice.d", ["30-others.conf"])):
                (folder / drop_ins).mkdir()
                for name in names:
                    # The choices too.
                    text = re.sub(r"^#(?=[A-Za-z]+=)", "", (TUNING / "systemd" / name).read_text(), flags=re.M)
                    (folder / drop_ins / name).write_text(text)
            slice_text = (folder / "corespan.slice").read_text()
            (folder / "corespan.slice").write_text(re.sub(r"^#(?=[A-Za-z]+=)", "", slice_text, flags=re.M))
            environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"}
            done = run("systemd-analyze", "verify", "--man=no", folder / "corespan.service", folder / "corespan.slice", env=environment)
            self.assertEqual([line for line in (done.stdout + done.stderr).splitlines() if "corespan" in line or str(folder) in line], [])
            # It would have said so.
            (folder / "corespan.slice.d/30-others.conf").write_text("[Slice]\nWings=2\n")
            done = run("systemd-analyze", "verify", "--man=no", folder / "corespan.slice", env=environment)
            self.assertIn("Wings", done.stdout + done.stderr)

    def test_the_page_says_of_every_item_whether_it_was_measured(self):
        page = (TUNING / "README.md").read_text()
        rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ") and line.count("|") == 7]
        self.assertEqual([cell.strip() for cell in rows[0]], ["item", "file", "what it does", "when it hurts", "how to see it", "measured"])
        named = " ".join(row[0] for row in rows)
        for item in ITEMS + ["CPUs", "slice", "others", "tuned", "isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity"]:
            self.assertIn(item, named)
        for row in rows[1:]:
            self.assertTrue(all(cell.strip() for cell in row), row)
            self.assertRegex(row[-1].strip(), r"\A(no\b|yes: .*\d)")
        for key in sysctl_keys(SYSCTL.read_text(), commented=True):
            self.assertIn(key, page)
        for file in [path for path in TUNING.rglob("*") if path.is_file()]:
            self.assertTrue(file.name == "README.md" or file.name in page, file)

    def test_packages_have_every_file_and_only_the_script_is_executable(self):
        packages = (TOP / "packaging/nfpm.yaml").read_text()
        for file in [path for path in TUNING.rglob("*") if path.is_file()]:
            name = file.relative_to(TUNING)
            mode = "0755" if name == Path("corespan-tune") else "0644"
            self.assertIn(f"  - {{src: tree/tuning/{name}, dst: /usr/share/corespan/tuning/{name}, file_info: {{mode: {mode}}}}}\n", packages)
            self.assertEqual(bool(file.stat().st_mode & 0o111), mode == "0755", name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
