"""The licence texts of all that is linked into the programs, from the sources that cargo has fetched. Prints them; equal texts once."""

import collections
import json
import pathlib
import re
import subprocess
import sys

TARGET = "x86_64-unknown-linux-gnu"
NAMES = re.compile(r"(?i)^(un)?(licen[sc]e|copying|copyright|notice)")
# How a licence names another one, in a folder of the same crate: "See src/polyfill/once_cell/LICENSE-MIT".
NAMED = re.compile(r"[\w.-]+(?:/[\w.-]+)*/(?:UN)?LICEN[SC]E[\w-]*(?:\.\w+)?")


def main(top):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--features", "static-libraries", "--filter-platform", TARGET, "--manifest-path", f"{top}/Cargo.toml"]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    linked, waiting = set(), [metadata["resolve"]["root"]]
    while waiting:
        package = waiting.pop()
        if package not in linked:
            linked.add(package)
            # A crate that carries the sources of a C library is there for the build only, and yet what it builds is linked.
            waiting += [d["pkg"] for d in nodes[package]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"]) or d["name"].endswith("_src")]
    linked.discard(metadata["resolve"]["root"])

    owners = collections.defaultdict(list)
    for package in sorted((packages[p] for p in linked), key=lambda p: p["name"]):
        folder = pathlib.Path(package["manifest_path"]).parent
        name = f"{package['name']} {package['version']} ({package['license']})"
        files = [f for f in folder.iterdir() if f.is_file() and NAMES.match(f.name)]
        # C sources that a crate brings along have licences of their own.
        files += [f for pattern in ("*/*", "src/zlib/*", "third_party/*/*") for f in folder.glob(pattern) if f.is_file() and NAMES.match(f.name) and not f.suffix == ".rs"]
        named = {folder / path for f in files for path in NAMED.findall(f.read_text(errors="replace"))}
        files += [f for f in named if f.is_file() and f not in files]
        if not files:
            owners["The package has no licence file; its metadata names the licence in parentheses above.\n"].append(name)
        for file in sorted(files):
            text = file.read_text(errors="replace")
            if name not in owners[text]:
                owners[text].append(name)
    for text, names in owners.items():
        print("=" * 80, *names, "=" * 80, "", text, sep="\n")


main(sys.argv[1])
