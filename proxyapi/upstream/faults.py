"""The ways in which an exchange with upstream can fail. Each becomes an error in `fault_answers` or in `answer`.

TransportFault
├── NotConnected      no connection: upstream has received nothing of the call
│   ├── ConnectTimeout    no connection in time
│   └── NoFileLeft        this process has as many files open as it may have
├── Late              the deadline passed before the end of the answer
│   └── Silent            no byte arrived for longer than a setting allows
└── Broken            the connection broke, or the answer is not HTTP
    └── InvalidStatus     its status is not one of HTTP's
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import zlib

import httptools

logger = logging.getLogger(__name__)

# Words for OpenSSL's error numbers. OpenSSL's own words quote the expected host name, which callers must not see.
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
    errno.ENETUNREACH: "no network leads to it",
    errno.EHOSTUNREACH: "no network leads to it",
    errno.EADDRNOTAVAIL: "this machine has no port left for it",
}


# Words for a connection that broke after it had been opened, by the system's error number.
LOST_CONNECTIONS = {
    errno.ECONNRESET: "it reset the connection",
    errno.EPIPE: "it closed the connection",
    errno.ETIMEDOUT: "the network to it was lost",
    errno.ENETUNREACH: "the network to it was lost",
    errno.EHOSTUNREACH: "the network to it was lost",
}
TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # the first bytes of an alert and of a handshake (RFC 8446, 5.1)


class ProxyRefused(ConnectionError):
    """Error: the proxy on the way to upstream did not open a tunnel, or its URL does not begin with http://."""


class TransportFault(Exception):
    """Base class of the errors of a failed exchange with upstream; each subclass is one way to fail."""


class NotConnected(TransportFault):
    """Error: no connection to upstream could be opened, so upstream has received nothing of the call.

    * `reason`: the reason as a text for the caller, without host, address or key.
    * `kind`: a text for the log, equal for equal faults: `reason` without a proxy's own words.
    """

    def __init__(self, reason: str = "", kind: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind or reason


class ConnectTimeout(NotConnected):
    """Error: no connection to upstream could be opened in time.

    `is_deadline` is true if the deadline of the call has passed, which came before the time limit of a connection.
    """

    def __init__(self, reason: str, *, is_deadline: bool) -> None:
        super().__init__(reason)
        self.is_deadline = is_deadline


class NoFileLeft(NotConnected):
    """Error: no connection to upstream could be opened, because the system allows no more open files."""


class Late(TransportFault):
    """Error: upstream's answer did not end before the deadline of the call."""


class Silent(Late):
    """Error: upstream sent nothing for `seconds`, which is longer than the setting named `setting` allows."""

    def __init__(self, setting: str, seconds: float) -> None:
        super().__init__(f"{setting}, {seconds:g} seconds")
        self.setting = setting
        self.seconds = seconds


class Broken(TransportFault):
    """Error: the connection broke before the end of upstream's answer, or the answer breaks HTTP's rules.

    The error's message is a text for the caller, without host, address or key. `kind` is the same text, but without
    words from upstream; the log distinguishes errors by it.
    """

    def __init__(self, reason: str = "", kind: str = "") -> None:
        super().__init__(reason)
        # so there are only few kinds to log, whatever upstream sends
        self.kind = kind or reason


class InvalidStatus(Broken):
    """Error: upstream's answer has a status that HTTP does not have, such as 99 or 600."""

    def __init__(self, status: int) -> None:
        super().__init__(f"its answer has the status {status:03}, which is none", "its answer has an invalid status")


def not_connected(fault: OSError | UnicodeError, *, is_proxy: bool) -> NotConnected:
    """Creates the error `NotConnected`, with a text for the caller that says why no connection could be opened.

    Returns its subclass `NoFileLeft` if the system allows no more open files. `fault` is the system's error. `is_proxy`
    is true if the connection goes to a proxy and not to upstream itself.
    """
    match fault:
        case ProxyRefused():
            kind = "the proxy did not connect"
            return NotConnected(f"{kind} ({fault})" if str(fault) else kind, kind)
        case socket.gaierror() | UnicodeError():
            reason = "its name is not known"
        case ssl.SSLCertVerificationError():
            what = CERTIFICATE_FAULTS.get(fault.verify_code, "it cannot be verified")
            return NotConnected(f"its certificate is not trusted: {what}")
        case ssl.SSLError():
            return NotConnected("TLS with it failed; it may speak http:// only")
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():  # asyncio's own have no number
            reason = "it closed the connection at once"
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return NoFileLeft("this machine has no open file left for it")
        case OSError():
            reason = SYSTEM_FAULTS.get(fault.errno or 0, "it cannot be connected to")
    return NotConnected(f"the proxy on the way: {reason}" if is_proxy else reason)


def lost(fault: Exception | None) -> Broken:
    """Creates the error `Broken` for a connection to upstream that was lost; its text tells the caller the reason.

    `fault` is the system's error, or None if upstream has closed the connection in an orderly way.
    """
    match fault:
        case None:
            reason = "it closed the connection"
        case ssl.SSLError():
            reason = "TLS with it failed"
        case OSError():
            reason = LOST_CONNECTIONS.get(fault.errno or errno.ECONNRESET, "the connection failed")
        case _:
            reason = "the connection failed"
    broken = Broken(reason)
    broken.__cause__ = fault
    return broken


def unreadable(start: bytes, fault: httptools.HttpParserError | httptools.HttpParserUpgrade) -> Broken:
    """Creates the error `Broken` for bytes from upstream that are no HTTP answer, with a text for the caller.

    `fault` is the parser's error. `start` has the first bytes that upstream has sent; leave it empty if the fault comes
    after the answer's head.
    """
    # If a function of the gateway that the parser calls, such as `on_body`, has raised an exception, that is the
    # reason; the parser's error only says in which function.
    cause: BaseException = fault.__context__ or fault
    match cause:
        case Broken():
            return cause
        case zlib.error():
            return damaged(cause)
        case httptools.HttpParserUpgrade():  # its text is an offset
            broken = Broken("it switched to another protocol, which was not asked for")
        case httptools.HttpParserError() if start.startswith(TLS_RECORDS):
            broken = Broken("it speaks TLS; it may need https://")
        case httptools.HttpParserError():  # its text is one of the parser's phrases, without anything of upstream's
            broken = Broken(f"its answer breaks HTTP's rules ({cause})")
        case _:
            # upstream cannot cause this
            logger.error("an answer of upstream's cannot be read, by an error of the gateway's own", exc_info=cause)
            broken = Broken("the gateway could not read its answer, by an error of its own")
    broken.__cause__ = cause
    return broken


def damaged(fault: zlib.error) -> Broken:
    """Creates the error `Broken` for an encoded answer that cannot be decoded, with the words of zlib's error."""
    kind = "its encoded answer is damaged"
    broken = Broken(f"{kind} ({fault})", kind)
    broken.__cause__ = fault
    return broken
