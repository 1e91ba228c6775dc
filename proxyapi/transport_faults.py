"""Owns how an exchange with upstream may fail.

TransportFault
├── NotConnected      no connection: upstream never heard of the call
│   └── ConnectTimeout    in time
├── Late              connected, and its time was over before its end
│   └── Silent            nothing came for longer than a setting allows
└── Broken            connected, and then cut, or not HTTP
    └── InvalidStatus     a status that is none
"""

from __future__ import annotations


class TransportFault(Exception):
    """The exchange with upstream failed."""


class NotConnected(TransportFault):
    pass


class ConnectTimeout(NotConnected):
    pass


class Late(TransportFault):
    pass


class Silent(Late):
    """`setting` names the limit that was passed, `seconds` is its value."""

    def __init__(self, setting: str, seconds: float) -> None:
        super().__init__(f"{setting}, {seconds:g} seconds")
        self.setting = setting
        self.seconds = seconds


class Broken(TransportFault):
    pass


class InvalidStatus(Broken):
    def __init__(self, status: int) -> None:
        super().__init__(f"its answer has the status {status:03}, which is none")
