"""`python -m tests.simulator.demo`: the server against a simulated OpenAI; no key, no network, no bill."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from chatproxy.configuration.setting_reader import DEMO_FILE, NO_ENV_FILES, REAL_SERVERS, data_dir
from proxyapi.keys.private_file import make_private_directory

ROOT = Path(__file__).resolve().parent.parent.parent
ANNOUNCEMENT = "simulator listening on "


def main() -> int:
    # In a session of its own, Ctrl-C does not reach it: calls in flight drain first.
    command = [sys.executable, "-m", "tests.simulator", "--port", "0"]
    simulator = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        return serve(announced_url(simulator))
    finally:
        simulator.terminate()
        simulator.wait()


def announced_url(simulator: subprocess.Popen[str]) -> str:
    assert simulator.stdout is not None
    for line in simulator.stdout:
        if line.startswith(ANNOUNCEMENT):
            return line.removeprefix(ANNOUNCEMENT).strip()
    sys.exit("chatproxy: the simulated OpenAI did not start")


def demo_directory() -> Path:
    """Returns the DATA_DIR of the demo, and marks it as one, so that `manage.py` reaches no real server with it.

    A directory that is there already and was named by the person is not marked: it may be a real server's.
    """
    named = os.environ.get("DATA_DIR", "").strip()
    place = data_dir({"DATA_DIR": named or "var/demo"})
    if not named or not place.exists():
        make_private_directory(place)
        (place / DEMO_FILE).touch(mode=0o600)
    return place


def demo_environment(upstream: str, place: Path) -> dict[str, str]:
    """Returns the environment of the demo's server: `upstream` is the simulator's URL, `place` the DATA_DIR."""
    # Made-up calls must not reach the database of a real server. `place` may have no mark by which settings know that.
    kept = {name: value for name, value in os.environ.items() if name not in REAL_SERVERS}
    return kept | {
        NO_ENV_FILES: "1",
        "OPENAI_BASE_URL": upstream,
        "OPENAI_API_KEY": "sk-demo-simulated",
        "DATA_DIR": str(place),
    }


def serve(upstream: str) -> int:
    print(
        "\nDEMO: every answer is made up by a simulated OpenAI on this machine. No model is asked, nothing is billed."
    )
    place = demo_directory()
    environment = demo_environment(upstream, place)
    server = subprocess.Popen(
        [sys.executable, "manage.py", "serve", "--demo"], cwd=ROOT, env=environment, start_new_session=True
    )

    def pass_on(number: int, _frame: FrameType | None) -> None:
        server.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
