"""`make profile ARGS=/openai`: shows in which functions a worker spends its time while it answers calls to a path.

py-spy takes samples of the worker. Printed are the functions that take most time themselves, and the functions of this
project that take most time including the functions they call. The stacks are written to `var/profiles/`, one per line,
in the form for speedscope.app and flamegraph.pl. With `--streams`, and for paths that only have streams, the load is
100 streams of 50 events a second. Only samples of threads that hold the GIL count, so waiting is left out. py-spy needs
root, or a kernel that lets a process look into another (`kernel.yama.ptrace_scope=0`).
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import Counter
from pathlib import Path

from bench.measures import events
from bench.stand.load import Asked, closed_loop
from bench.stand.processes import LOAD_CORE, allow_many_sockets, pinned
from bench.stand.requests import BODIES, STREAMS, plain
from bench.stand.stand import Server, stand

DIRECTORY = Path("var/profiles")
SHOWN = 25
OURS = re.compile(r"\((proxyapi|usage|chatproxy)/")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("path", nargs="?", default="/v1/chat/completions", choices=sorted({*BODIES, *STREAMS}))
    parser.add_argument("--streams", action="store_true")
    parser.add_argument("--seconds", type=int, default=15)
    arguments = parser.parse_args()
    is_streamed = arguments.streams or arguments.path not in BODIES
    if is_streamed and arguments.path not in STREAMS:
        parser.error(f"{arguments.path} has no streams")
    allow_many_sockets()
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    file = DIRECTORY / f"{arguments.path.strip('/').replace('/', '-')}{'-streams' * is_streamed}.txt"
    with stand() as it:
        if not is_streamed:
            closed_loop(Asked(it.server.url, plain(arguments.path, it.server.key)), 500)  # to warm up
        with pinned(LOAD_CORE):
            spy = record(it.gateway.worker_pids[0], arguments.seconds, file)
        while spy.poll() is None:
            load(it.server, arguments.path, arguments.seconds, is_streamed=is_streamed)
        if spy.returncode:
            raise SystemExit("py-spy could not look into the worker")
    show(file)


def record(pid: int, seconds: int, file: Path) -> subprocess.Popen[bytes]:
    """Starts the profiler py-spy: it takes samples of a process for `seconds`, and writes the stacks to `file`."""
    command = [".venv/bin/py-spy", "record", "--pid", str(pid), "--duration", str(seconds), "--rate", "200"]
    return subprocess.Popen(
        [*command, "--gil", "--function", "--format", "raw", "--output", str(file)], stdout=subprocess.DEVNULL
    )


def load(server: Server, path: str, seconds: int, *, is_streamed: bool) -> None:
    """Keeps the server busy while py-spy takes samples of its worker: makes calls to `path`, or opens streams.

    The streams are open for `seconds`.
    """
    if is_streamed:
        events.measure(server, path, seconds=seconds, count=100)
    else:
        closed_loop(Asked(server.url, plain(path, server.key)), 1000)


def show(file: Path) -> None:
    """Reads the stacks that py-spy has written, and prints which functions take most of the worker's time.

    Each line of the file is a stack, with its outermost function first, and the number of samples that had this stack.
    """
    own, total = Counter[str](), Counter[str]()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    everything = own.total()
    ours = Counter({frame: samples for frame, samples in total.items() if OURS.search(frame)})
    for title, counter in (("by itself", own), ("ours, with all that it calls", ours)):
        print(f"\n{title}:")
        for frame, samples in counter.most_common(SHOWN):
            print(f"{samples / everything:7.1%}  {frame}")
    print(f"\n{everything:,} samples; the stacks are in {file}")


if __name__ == "__main__":
    main()
