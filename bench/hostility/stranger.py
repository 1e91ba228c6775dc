"""A hostile client on a line of 100 Mbit/s: `python -m bench.hostility.stranger NUMBER URL SECONDS [KEY]`.

`bench.hostility.run` starts this program. It carries out the attack with that number in `bench.hostility.attacks`, on
loopback only, and then prints as JSON what it did: bytes, connections, answers by status, and its own use of CPU, which
shows whether it took CPU from the server and the good client. All its connections share a token bucket; a new
connection is charged the bytes that its opening and closing would take on a real line.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections import Counter
from itertools import count
from typing import Any

import uvloop

from bench.hostility.attacks import Attack, key_holders, strangers
from bench.stand.processes import allow_many_sockets
from bench.stand.requests import address

LINE = 12_500_000  # bytes a second
BURST_SECONDS = 0.05
HANDSHAKE = 400  # bytes of the packets that open and close a connection
SMALL_BUFFER = 4096  # receive buffer, in bytes, of a connection that never reads
NICENESS = 5  # the core is shared with upstream and the good client, which a real attacker would not slow down


class Line:
    """A limit on the speed at which an attack sends, for all of its connections together: a token bucket."""

    def __init__(self) -> None:
        self.sent = 0
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Waits until `size` more bytes may be sent on the line, and counts them as sent."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now - BURST_SECONDS) + size / LINE
        self.sent += size
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Stranger:
    """The hostile client: carries out one attack, and counts its requests and the answers."""

    def __init__(self, attack: Attack, url: str) -> None:
        self._attack = attack
        self._server = address(url)
        self._line = Line()
        self._answers: Counter[str] = Counter()
        self._connections = 0
        self._requests = 0

    async def run(self, seconds: float) -> dict[str, Any]:
        """Attacks for `seconds`, and returns a report of what was done.

        The report has bytes a second, connections, requests, answers by status, and this process's CPU in percent of a
        core.
        """
        tasks = [asyncio.create_task(self._connection(number)) for number in range(self._attack.connections)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {
            "bytes_per_second": self._line.sent / seconds,
            "connections": self._connections,
            "requests": self._requests,
            "answers": dict(self._answers),
            "cpu_percent": time.process_time() / seconds * 100,
        }

    async def _connection(self, number: int) -> None:
        """Keeps one of the attack's connections open, and replaces it when it has ended, until the task is cancelled.

        The new connection comes from the same IP address. In an attack with `then` "stay", connections are not
        replaced.
        """
        source = f"127.1.0.{number % self._attack.addresses + 1}"
        for turn in count(number):
            pieces = self._attack.requests[turn % len(self._attack.requests)]
            await self._line.take(HANDSHAKE)
            with socket.socket() as connection:
                connection.setblocking(False)
                if not self._attack.reads:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
                try:
                    connection.bind((source, 0))
                    await asyncio.get_running_loop().sock_connect(connection, self._server)
                    self._connections += 1
                    await self._requests_on(connection, pieces)
                except OSError as error:  # the server has closed or refused this connection
                    self._answers[type(error).__name__] += 1
            if self._attack.then == "stay":
                return

    async def _requests_on(self, connection: socket.socket, pieces: tuple[bytes, ...]) -> None:
        """Sends a request on a connection, piece by piece, and then does what the attack prescribes for afterwards.

        Counts the requests, and the answers by status.
        """
        loop = asyncio.get_running_loop()
        while True:
            self._requests += 1
            for piece in pieces:
                await self._line.take(len(piece))
                await loop.sock_sendall(connection, piece)
                if self._attack.pause:
                    await asyncio.sleep(self._attack.pause)
            if not self._attack.reads:
                await asyncio.Event().wait()  # until the attack is over
            data = await loop.sock_recv(connection, 65536)
            self._answers[data[9:12].decode("latin-1") or "closed"] += 1
            while data and self._attack.then in {"hold", "stay"}:
                data = await loop.sock_recv(connection, 65536)
            if not data or self._attack.then != "same":
                return


def main() -> None:
    number, url, seconds, *keys = sys.argv[1:]
    attack = (key_holders(keys[0]) if keys else strangers())[int(number)]
    allow_many_sockets()
    os.nice(NICENESS)
    print("ready", flush=True)
    print(json.dumps(uvloop.run(Stranger(attack, url).run(float(seconds)))))


if __name__ == "__main__":
    main()
