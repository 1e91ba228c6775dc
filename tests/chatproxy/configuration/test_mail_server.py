"""The mail server for alerts: which URLs name one, and what is read of them."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration.service_urls import MailServer, mail_server, passwords_of, smtp_url
from chatproxy.configuration.setting_reader import read


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", MailServer("mail.example", 25, "", "", False, False)),
        ("smtp+tls://user:p%40ss+w%2Fo@mail.example", MailServer("mail.example", 587, "user", "p@ss+w/o", True, False)),
        ("smtp+ssl://a%40b.example:x@mail.example", MailServer("mail.example", 465, "a@b.example", "x", False, True)),
        ("smtp+tls://mail.example:2525/", MailServer("mail.example", 2525, "", "", True, False)),
        ("smtp://[::1]:1025", MailServer("::1", 1025, "", "", False, False)),
    ],
)
def test_it_works(url: str, expected: MailServer) -> None:
    assert mail_server(smtp_url(url)) == expected


@pytest.mark.parametrize(
    "url",
    ["mail.example", "smtps://mail.example", "https://mail.example", "smtp://", "smtp://mail.example/path",
     "smtp://mail.example?use_tls=1", "smtp://user:pass/word@mail.example", "smtp://mail.example:99999"],
)  # fmt: skip
def test_what_is_no_mail_server_is_refused(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^EMAIL_URL (is not the URL of a mail server|cannot be read); "):
        read({"EMAIL_URL": url})


def test_its_password_is_redacted_in_each_spelling() -> None:
    assert set(passwords_of("smtp+tls://user:long%40password@mail.example")) == {"long%40password", "long@password"}


@pytest.mark.parametrize("sender", ["chatproxy", "a@", "a b@example.com c"])
def test_a_sender_is_an_address(sender: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^EMAIL_FROM .* is not an e-mail address"):
        read({"EMAIL_FROM": sender})


def test_a_sender_may_have_a_name() -> None:
    assert read({"EMAIL_FROM": "The gateway <ai@example.com>"})["EMAIL_FROM"].startswith("The gateway")
