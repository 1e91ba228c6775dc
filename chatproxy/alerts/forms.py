"""The admin's forms for alert rules and channels. A channel's secrets are entered there, but never shown."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminPasswordWidget

from chatproxy.alert_models import AlertChannel, AlertKind, AlertRule, ChannelKind
from chatproxy.alerts.kinds import KINDS

MIN_SECRET_LENGTH = 16
KEEP = "Leave empty to keep it."  # the end of a help text, if the channel may have a value already


def check_webhook_url(url: str) -> None:
    """Checks the address to which a channel is to post.

    Raises:
        ValidationError: the address is not http:// or https://, or has a user or a password in it.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise ValidationError("This is no address; one begins with https:// and a host name.")
    if "@" in parts.netloc:
        raise ValidationError("The address has a user or a password in it, which would not be sent; leave it out.")


class AlertRuleForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """The admin's form to create or change an alert rule."""

    class Meta:
        model = AlertRule
        fields = "__all__"  # noqa: DJ007  (the admin's fieldsets say which)

    def clean(self) -> dict[str, object]:
        """Checks that the form has a threshold and a window if the rule's kind of fault needs them; returns the values.

        A missing one becomes an error of the form. A field that the kind does not use is emptied.
        """
        cleaned: dict[str, object] = super().clean() or {}
        kind = cleaned.get("kind") or self.instance.kind
        if kind in AlertKind.values:
            facts = KINDS[AlertKind(kind)]
            for name, meaning in (("threshold", facts.threshold), ("window_minutes", facts.window)):
                if not meaning:
                    cleaned[name] = None
                elif cleaned.get(name) is None and name not in self.errors:
                    self.add_error(name, f"Rules of this kind need it. {meaning}")
        return cleaned


class AlertChannelForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """The admin's form to create or change an alert channel."""

    url = forms.CharField(
        label="Address",
        required=False,
        max_length=2000,
        validators=[check_webhook_url],
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text=f"For a webhook, Slack or Teams. Stored encrypted, never shown again. {KEEP}",
    )
    secret = forms.CharField(
        required=False,
        min_length=MIN_SECRET_LENGTH,
        max_length=500,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="For a webhook: signs its messages, and the receiver checks that. At least 16 random characters."
        f" Stored encrypted, never shown again. {KEEP}",
    )

    class Meta:
        model = AlertChannel
        fields = "__all__"  # noqa: DJ007  (the admin's fieldsets say which)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # the arguments of Django's form
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:  # a new channel has nothing to keep
            for field in self.fields.values():
                field.help_text = str(field.help_text).removesuffix(f" {KEEP}")

    def clean(self) -> dict[str, object]:
        """Checks that the form has what the channel's kind needs; adds an error to the form for what is missing.

        A webhook needs an address and a secret. Slack and Teams need an address. E-mail needs recipients, and the
        setting `EMAIL_URL`. An empty field for the address or secret is allowed if one is stored already. Returns the
        values.
        """
        cleaned: dict[str, object] = super().clean() or {}
        kind = cleaned.get("kind") or self.instance.kind
        if kind == ChannelKind.EMAIL:
            if not cleaned.get("recipients") and "recipients" not in self.errors:
                self.add_error("recipients", "An e-mail needs a recipient.")
            if not settings.EMAIL_URL:
                self.add_error(
                    "kind" if "kind" in self.fields else None, "Set EMAIL_URL first, and start the server again."
                )
        elif kind:
            if not (cleaned.get("url") or self.instance.sealed_url or "url" in self.errors):
                self.add_error("url", "This kind of channel needs an address.")
            is_signed = kind == ChannelKind.WEBHOOK
            if is_signed and not (cleaned.get("secret") or self.instance.sealed_secret or "secret" in self.errors):
                self.add_error("secret", "A webhook needs a secret, so that the receiver knows who has sent a message.")
        return cleaned

    def set_secrets(self, channel: AlertChannel) -> None:
        """Copies the address and the secret that were entered in the form to a channel, without saving the channel.

        A field that was left empty changes nothing.
        """
        if url := self.cleaned_data.get("url"):
            channel.set_url(url)
        if secret := self.cleaned_data.get("secret"):
            channel.set_secret(secret)
