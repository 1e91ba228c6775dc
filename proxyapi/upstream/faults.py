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

import errno
import socket
import ssl

# OpenSSL's words quote the name that was expected, so only these leave.
CERTIFICATE_FAULTS = {
    10: "it has expired",
    9: "it is not valid yet",
    18: "it is self-signed",
    19: "an authority that is not known has signed it",
    20: "an authority that is not known has signed it",
    21: "an authority that is not known has signed it",
    23: "it has been revoked",
    62: "it is for another name",
    64: "it is for another address",
}
SYSTEM_FAULTS = {
    errno.ECONNREFUSED: "it refuses connections",
    errno.ECONNRESET: "it closed the connection at once",
    errno.EPIPE: "it closed the connection at once",
    errno.ENETUNREACH: "no network leads to it",
    errno.EHOSTUNREACH: "no network leads to it",
    errno.EMFILE: "this machine has no open file left for it",
    errno.ENFILE: "this machine has no open file left for it",
    errno.EADDRNOTAVAIL: "this machine has no port left for it",
}


class ProxyRefused(ConnectionError):
    """The proxy on the way to upstream did not connect."""


class TransportFault(Exception):
    """The exchange with upstream failed."""


class NotConnected(TransportFault):
    """`reason` says why in words for a caller: without a name, an address or a key."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


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


def not_connected(fault: OSError | UnicodeError, *, is_proxy: bool) -> NotConnected:
    """What a fault while connecting means; `is_proxy`: the connection was to a proxy."""
    match fault:
        case ProxyRefused():
            return NotConnected(f"the proxy did not connect ({fault})" if str(fault) else "the proxy did not connect")
        case socket.gaierror() | UnicodeError():
            reason = "its name is not known"
        case ssl.SSLCertVerificationError():
            what = CERTIFICATE_FAULTS.get(fault.verify_code, "it cannot be verified")
            return NotConnected(f"its certificate is not trusted: {what}")
        case ssl.SSLError():
            return NotConnected("TLS with it failed; is it https:// at all?")
        case OSError():
            reason = SYSTEM_FAULTS.get(fault.errno or 0, "it cannot be connected to")
    return NotConnected(f"the proxy on the way: {reason}" if is_proxy else reason)
