"""The command line: `python -m tests.simulator --host 127.0.0.1 --port 0`."""

import argparse
from contextlib import suppress

from tests.simulator.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="A simulated OpenAI.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        serve(arguments.host, arguments.port)


if __name__ == "__main__":
    main()
