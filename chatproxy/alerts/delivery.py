"""Sends one message through one channel, over HTTP or SMTP, and describes the result in words.

The words never contain a part of the channel's address, which may let anybody post, nor a part of the other side's
answer. Redirects are not followed, TLS is verified, and the proxy in the environment variables is used, as for calls
upstream.
"""

from __future__ import annotations

import smtplib
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend

from chatproxy.alert_models import AlertChannel, ChannelKind
from chatproxy.alerts import formats
from chatproxy.alerts.notice import Notice
from chatproxy.configuration.service_urls import mail_server
from proxyapi.sealing import CannotUnseal
from proxyapi.upstream.proxies import environment_proxy

TIMEOUT_SECONDS = 5.0
SEAL_FAULT = "its address or secret cannot be decrypted, since the secret of the gateway has changed; enter it again"
BODIES: dict[str, Callable[[Notice], bytes]] = {
    ChannelKind.SLACK: formats.slack_json,
    ChannelKind.TEAMS: formats.teams_json,
}


class SendingResult(NamedTuple):
    """The result of one try to send a message: whether it was accepted, and a description for the log of messages."""

    was_sent: bool
    words: str


def send(notice: Notice, channel: AlertChannel, message_id: str) -> SendingResult:
    """Sends a message through a channel; returns whether the channel accepted it, and a description of the result.

    Each step on the network may take `TIMEOUT_SECONDS`. Only webhooks get the `message_id`.
    """
    try:
        if channel.kind == ChannelKind.EMAIL:
            return _send_email(notice, channel.recipients)
        return _post(channel.url, *_request_of(notice, channel, message_id))
    except CannotUnseal:
        return SendingResult(False, SEAL_FAULT)


def _request_of(notice: Notice, channel: AlertChannel, message_id: str) -> tuple[bytes, dict[str, str]]:
    """Returns the body and headers of the HTTP request that posts a message to a channel.

    A webhook's request is signed with the secret of the channel.

    Raises:
        CannotUnseal: the secret cannot be decrypted.
    """
    headers = {"Content-Type": "application/json", "User-Agent": f"chatproxy/{settings.VERSION}"}
    if channel.kind in BODIES:
        return BODIES[channel.kind](notice), headers
    body = formats.webhook_json(notice, message_id)
    signature = formats.signature_of(body, channel.secret, int(time.time()))
    return body, {**headers, formats.SIGNATURE_HEADER: signature}


def _post(url: str, body: bytes, headers: dict[str, str]) -> SendingResult:
    """Posts a request body to a URL; a status from 200 to 299 is a success. Returns the result.

    The body of the answer is not read.
    """
    import httpx2  # takes 10 MB, and most servers have nothing to tell

    try:
        proxy = environment_proxy(url)
        with (
            httpx2.Client(
                proxy=proxy.geturl() if proxy else None,
                trust_env=False,
                follow_redirects=False,
                verify=ssl.create_default_context(),
                timeout=TIMEOUT_SECONDS,
            ) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            return SendingResult(answer.is_success, f"status {answer.status_code}")
    except httpx2.TimeoutException:
        return SendingResult(False, f"no answer in {TIMEOUT_SECONDS:g} seconds")
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
        return SendingResult(False, f"not reached: {type(error).__name__}")


def _send_email(notice: Notice, recipients: list[str]) -> SendingResult:
    """Sends a message as one e-mail to all recipients, through the server in EMAIL_URL; returns whether that succeeded.

    The message counts as sent if the mail server accepts it for one recipient at least. Errors of the network and of
    the mail server are not raised: the result describes them.
    """
    if not settings.EMAIL_URL:
        return SendingResult(False, "EMAIL_URL is not set")
    server, title, text = mail_server(settings.EMAIL_URL), f"[chatproxy] {notice.title}", formats.plain_text(notice)
    headers = {"Auto-Submitted": "auto-generated"}  # no out-of-office replies (RFC 3834)
    message = EmailMessage(title, text, settings.EMAIL_FROM, recipients, headers=headers)
    connection = _MailConnection(
        server.host, server.port, server.user, server.password, server.starts_tls, use_ssl=server.has_tls,
        timeout=int(TIMEOUT_SECONDS),
    )  # fmt: skip
    try:
        connection.send_messages([message])
    except TimeoutError:
        return SendingResult(False, f"no answer in {TIMEOUT_SECONDS:g} seconds")
    except smtplib.SMTPResponseException as error:
        return SendingResult(False, f"the mail server answered {error.smtp_code}")
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return SendingResult(False, f"not sent: {type(error).__name__}")
    taken = f"taken by the mail server for {len(recipients) - connection.refused} recipients"
    # Sent nevertheless: a second try would reach the others twice.
    return SendingResult(True, f"{taken}, refused for {connection.refused}" if connection.refused else taken)


class _MailConnection(EmailBackend):
    """An SMTP connection that counts the recipients whom the mail server refuses while it accepts others."""

    refused = 0

    def open(self) -> bool | None:
        """Opens the connection, and makes it count refused recipients, whom Django would ignore.

        Returns what Django's method returns: whether a new connection was opened.
        """
        is_new = super().open()
        connection: Any = self.connection
        send = connection.sendmail

        def send_and_count(*arguments: object) -> None:
            self.refused += len(send(*arguments))

        connection.sendmail = send_and_count
        return is_new
