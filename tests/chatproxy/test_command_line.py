"""A command ends with one line, or without a word, whatever its output, its arguments and Ctrl-C do to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command

from chatproxy.configuration.setting_reader import BASE_DIR
from proxyapi.models import AccessKey
from tests.support.polling import PATIENCE

PYTHON = sys.executable
CLOSED = "chatproxy: the standard output is closed; redirect it, to /dev/null if nobody reads it"
FULL = "chatproxy: [Errno 28] No space left on device"
# Runs the command line with a command of a test's own, whose code is the first argument.
RUN = "import manage, os, sys; manage._run = lambda: exec(sys.argv[1]); manage.main()"


def run_in_shell(line: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of a shell, in which `$RUN` starts the command line with the code behind it."""
    # Python buffers the output then, as in a shell of a person.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = "set -o pipefail; " + line.replace("$RUN", f'{PYTHON} -c "{RUN}"')
    return subprocess.run(
        ["/bin/bash", "-c", line],
        cwd=BASE_DIR,
        env=variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("$RUN 'print(1)' > /dev/full", 1, FULL),
        ("$RUN 'print(1); sys.exit(0)' > /dev/full", 1, FULL),
        ("$RUN 'print(1, flush=True)' > /dev/full", 1, FULL),
        ("$RUN 'print(1)' >&-", 1, CLOSED),
        ("$RUN 'print(1); print(2, file=sys.stderr)' 2>&-", 0, ""),
        ("$RUN 'print(sys.stdin.read())' <&-", 0, ""),
        ("$RUN 'print(1 * \"x\" * 10**6)' | true", 1, ""),
        ("$RUN 'open(\"/nowhere/x\")'", 1, "chatproxy: [Errno 2] No such file or directory: '/nowhere/x'"),
        ("PYTHONIOENCODING=ascii $RUN 'print(chr(1082))'", 0, ""),
        ("$RUN 'print(chr(0xdcff))'", 0, ""),
        (
            "$RUN 'chr(0xdcff).encode()'", 1,
            "chatproxy: a text on the command line, or in a setting, is not valid UTF-8",
        ),
        (f"{PYTHON} manage.py --version > /dev/full", 1, FULL),
    ],
)  # fmt: skip
def test_no_output_makes_a_traceback(line: str, status: int, words: str) -> None:
    done = run_in_shell(line)
    assert (done.returncode, done.stderr.strip()) == (status, words)


def test_an_interrupted_command_ends_by_its_signal() -> None:
    # A script's background job, such as a whole run of the tests, has SIGINT ignored, and so have its children.
    heard = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {RUN}"
    code = "print(1, flush=True); import signal; signal.pause()"
    running = subprocess.Popen(
        [PYTHON, "-c", heard, code], cwd=BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "1\n"
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=PATIENCE) == ("", "")
    assert running.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    "code", ['int("x")', 'chr(233).encode("ascii")', 'sys.argv.append("--traceback"); open("/no")']
)
def test_a_fault_of_the_code_keeps_its_traceback(code: str) -> None:
    assert "Traceback" in run_in_shell(f"$RUN '{code}'").stderr


class FullOutput(StringIO):
    """An output that fails: when it is written to, or, like a buffer, only when it is flushed."""

    def __init__(self, fails_at_once: bool) -> None:
        super().__init__()
        self.fails_at_once = fails_at_once

    def write(self, text: str) -> int:
        if self.fails_at_once:
            raise OSError(28, "No space left on device")
        return super().write(text)

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.django_db
@pytest.mark.parametrize("fails_at_once", [True, False])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_secret_that_cannot_be_written_is_not_made(fails_at_once: bool, options: list[str]) -> None:
    key, _ = AccessKey.objects.issue("rotated")
    for action in (["create", "made"], ["rotate", "rotated"]):
        with pytest.raises(OSError, match="No space"):
            call_command("keys", *action, *options, stdout=FullOutput(fails_at_once))
    assert list(AccessKey.objects.values_list("name", "digest")) == [("rotated", key.digest)]
    assert not LogEntry.objects.exists()
