"""Running the simulator under uvicorn: in a thread for tests (`run_simulator`), or in the foreground (`serve`)."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from tests.simulator.app import SimulatorApp
from tests.simulator.wire.chance import chance
from tests.simulator.wire.faults import parse_fault
from tests.simulator.wire.recording import ReceivedRequest

_PATIENCE = 60.0  # seconds; on a busy machine
# Linux lets the other side's buffer grow to 32 MiB (`tcp_rmem`) with what is on its way at once; so little does not,
# and a client that stops reading is felt after a few MB.
_SEND_BUFFER = 32 * 1024


class _Server(uvicorn.Server):
    """uvicorn's server, as the simulator runs it: sets `up` once it listens, and ends hanging answers when it stops."""

    def __init__(self, app: SimulatorApp) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
            backlog=2048,
        )
        super().__init__(config)
        self._app = app
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.stop_answers()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
    )
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # also of those that it accepts
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


class Simulator:
    """A running simulator of OpenAI's API, as a test sees and controls it.

    Every method may be called from any thread.
    """

    def __init__(self, base_url: str, app: SimulatorApp) -> None:
        self.base_url = base_url
        self._app = app

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests that the simulator has received since the start or the last `clear`, oldest first."""
        return self._app.recorder.requests

    @property
    def last(self) -> ReceivedRequest:
        """The newest request that the simulator has received.

        Raises:
            IndexError: there is none.
        """
        return self._app.recorder.requests[-1]

    @property
    def in_flight(self) -> int:
        """The number of requests whose answer is not finished."""
        return self._app.recorder.in_flight

    @property
    def waiting(self) -> int:
        """The number of answers that wait, before their head or inside of a stream, until `release` lets them go."""
        return self._app.gate.waiting

    def clear(self) -> None:
        """Forgets all requests, queued faults and stored objects, releases waiting answers, and ends a `freeze`.

        Requests that are in flight are forgotten, too: they are in neither `requests` nor `in_flight` any more.
        """
        self._app.reset()

    def freeze(self, seed: str = "") -> None:
        """Calls `clear`, and makes ids and times repeat themselves until the next `clear`.

        After each such call with the same `seed`, the same requests get answers with the same bytes. All simulators of
        this process are frozen together.
        """
        self.clear()
        chance.freeze(seed)

    def fail_next(self, fault: str, times: int = 1) -> None:
        """Makes the next `times` requests fail by a fault, given as text such as `slow-0.3`.

        Raises:
            ValueError: the table in `tests.simulator.wire.faults` does not have the fault.
        """
        self._app.queue.extend([parse_fault(fault)] * times)

    def hold(self) -> None:
        """Makes every answer wait, before its head is sent, from now on until `release` is called."""
        self._app.gate.hold()

    def release(self, waiting: int = 0, timeout: float = _PATIENCE) -> None:
        """Lets all held answers go once there are at least `waiting` of them, and ends a `hold`.

        Raises:
            TimeoutError: there were fewer after `timeout` seconds.
        """
        self.wait_until(lambda: self.waiting >= waiting, timeout)
        self._app.gate.release()

    def wait_until(self, condition: Callable[[], object], timeout: float = _PATIENCE) -> None:
        """Waits until a condition on the recorded requests is true; it is checked whenever the record changes.

        Raises:
            TimeoutError: it was not true within `timeout` seconds.
        """
        self._app.recorder.wait_until(condition, timeout)


@contextmanager
def run_simulator(host: str = "127.0.0.1", port: int = 0) -> Iterator[Simulator]:
    """Runs a simulator in a thread of this process until the block ends, and yields it.

    Its port is a free one unless one is given.
    """
    app = SimulatorApp()
    server = _Server(app)
    with _listen(host, port) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True)
        thread.start()
        try:
            if not server.up.wait(_PATIENCE):
                raise RuntimeError("the simulator didn't start")
            yield Simulator(_url(listener), app)
        finally:
            server.should_exit = True
            thread.join(_PATIENCE)


def serve(host: str, port: int) -> None:
    """Runs a simulator until SIGTERM or SIGINT; the first line of standard output tells its URL."""
    with _listen(host, port) as listener:
        sys.stdout.write(f"simulator listening on {_url(listener)}\n")
        sys.stdout.flush()
        _Server(SimulatorApp()).run(sockets=[listener])
