"""Writes a message in the form that a kind of channel needs: signed JSON for webhooks, Slack, Teams, or plain text.

Names of keys and models are text that strangers may have chosen. They are escaped, so that they cannot become links or
mentions in a chat, or end a line.
"""

from __future__ import annotations

import hmac
import json

from chatproxy.alerts.notice import Notice

VERSION = 1  # of the JSON for webhooks
SIGNATURE_HEADER = "Chatproxy-Signature"
MAX_SLACK_LINE = 590  # characters; escaped, five times as many, and Slack takes 3,000 in one text
SCHEMA = "http://adaptivecards.io/schemas/adaptive-card.json"


def webhook_json(notice: Notice, message_id: str) -> bytes:
    """Returns a message as the JSON body for a webhook.

    `message_id` stays the same in each try to send the message, so that a receiver can drop repetitions.
    """
    return _json({"version": VERSION, "id": message_id, **notice.as_json()})


def signature_of(body: bytes, secret: str, timestamp: int) -> str:
    """Returns the value of the header that signs a webhook's request: `t=<Unix time>,v1=<hex>`.

    The hex digits are the HMAC-SHA256 of the time, a dot and the body. A receiver should refuse old times, so that
    nobody can send an intercepted message again.
    """
    digest = hmac.digest(secret.encode(), f"{timestamp}.".encode() + body, "sha256").hex()
    return f"t={timestamp},v1={digest}"


def slack_json(notice: Notice) -> bytes:
    """Returns a message as JSON for an incoming webhook of Slack, with the characters `&`, `<` and `>` escaped.

    Slack shows the `blocks`, and the `text` in notifications only. A line is cut to `MAX_SLACK_LINE` characters.
    """
    texts = [line[:MAX_SLACK_LINE] for line in (notice.title, *notice.lines)]
    lines = [f"*{_for_slack(texts[0])}*", *map(_for_slack, texts[1:])]
    if notice.url:
        lines.append(f"<{_for_slack(notice.url)}|Open in chatproxy>")
    # verbatim: addresses in names become no links (docs.slack.dev, "Text object")
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": line, "verbatim": True}} for line in lines]
    return _json({"text": "\n".join(lines), "blocks": blocks})


def teams_json(notice: Notice) -> bytes:
    """Returns a message as JSON for a Teams workflow that is started by a webhook: an Adaptive Card.

    The texts are in `RichTextBlock`, because `TextBlock` would interpret Markdown in them.
    """
    paragraphs = [
        {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, "weight": weight}]}
        for text, weight in [(notice.title, "bolder"), *((line, "default") for line in notice.lines)]
    ]
    actions = [{"type": "Action.OpenUrl", "title": "Open in chatproxy", "url": notice.url}] if notice.url else []
    card = {"$schema": SCHEMA, "type": "AdaptiveCard", "version": "1.2", "body": paragraphs, "actions": actions}
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return _json({"type": "message", "attachments": [attachment]})


def plain_text(notice: Notice) -> str:
    """Returns a message as the text of an e-mail: its title, its lines, and its link, if there is one."""
    return "\n".join([notice.title, "", *notice.lines, *(["", notice.url] if notice.url else [])]) + "\n"


def _for_slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
