"""The admin's pages of alerts: alerts, messages about them, rules, and channels with a test button.

Whoever may change channels can make the gateway send requests to any address, so channels have permissions of their
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.postgres.fields import ArrayField
from django.db.models import Case, CharField, ManyToManyField, Model, OuterRef, QuerySet, Subquery, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextareaWidget

from chatproxy.accounts import accounts_admin, token_admin  # noqa: F401  (register pages: Django looks for modules named admin)
from chatproxy.alert_models import Alert, AlertAttempt, AlertChannel, AlertKind, AlertMessage, AlertRule, ChannelKind
from chatproxy.alerts.forms import AlertChannelForm, AlertRuleForm
from chatproxy.alerts.incidents import channels_for
from chatproxy.alerts.kinds import KINDS
from chatproxy.alerts.outbox import send_test
from proxyapi.pages.admin_forms import LinesField
from usage.admin_pages.admin_base import GuardedAdmin, ReadOnlyAdmin, row_number
from usage.admin_pages.base_url import own_path
from usage.number_words import counted
from usage.untrusted_text import escape_invisible

STATES = {"open": "danger", "resolved": "success"}
# Sorts rules by the name of their kind, as it is shown.
KIND_LABEL = Case(*(When(kind=kind.value, then=Value(str(kind.label))) for kind in AlertKind), output_field=CharField())
MESSAGE_STATES = {"sent": "success", "waiting": "info", "failed": "danger", "withdrawn": "warning"}


class OpenFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Alert]) -> list[tuple[str, str]]:
        return [(state, state) for state in STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        return queryset.filter(resolved_at__isnull=value == "open") if (value := self.value()) in STATES else queryset


class MessagesOfAlert(TabularInline):  # type: ignore[misc]  # unfold has no types
    model = AlertMessage
    fields = readonly_fields = ("made", "event", "channel", "state_in_words", "attempts")
    extra = max_num = 0
    can_delete = False
    verbose_name_plural = "messages"

    def has_change_permission(self, request: HttpRequest, obj: Alert | None = None) -> bool:
        return False

    @admin.display(description="written (UTC)")
    def made(self, message: AlertMessage) -> str:
        return f"{message.made_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="state")
    def state_in_words(self, message: AlertMessage) -> str:
        return message.state


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    class Media:
        css = {"all": ["usage/pages.css"]}  # noqa: RUF012  (Django's attribute)

    list_display = ("what", "kind", "alert_state", "began", "ended")
    fields = readonly_fields = ("title", "detail", "to_do", "told", "kind", "subject_name", "host", "began", "ended")
    list_filter = (OpenFilter,)
    allowed_lookups = (OpenFilter.parameter_name,)
    list_filter_sheet = False
    list_select_related = ("rule",)
    show_full_result_count = False
    inlines = (MessagesOfAlert,)
    empty_words = "Faults that the rules find will be listed here, and sent through the channels."

    @admin.display(description="what")
    def what(self, alert: Alert) -> str:
        return escape_invisible(alert.title)

    @admin.display(description="kind", ordering="rule__kind")
    def kind(self, alert: Alert) -> str:
        return alert.rule.get_kind_display()

    @admin.display(description="subject")
    def subject_name(self, alert: Alert) -> str:
        return escape_invisible(alert.subject)

    @admin.display(description="what to do")
    def to_do(self, alert: Alert) -> str:
        facts = KINDS[AlertKind(alert.rule.kind)]
        return format_html(
            '{} <a class="cp-link" href="{}">Details</a>', facts.action, own_path(alert.page or facts.page)
        )

    def get_fields(self, request: HttpRequest, obj: Alert | None = None) -> list[str]:
        """Returns the fields of an alert's page; the field "who is told" is only for people who may add channels."""
        sees_channels = request.user.has_perm("chatproxy.add_alertchannel")
        return [name for name in self.fields if sees_channels or name != "told"]

    @admin.display(description="who is told")
    def told(self, alert: Alert) -> str:
        """Returns a text for an alert's page: how many channels send its messages, or a link to add a channel."""
        channels = AlertChannel.objects.filter(enabled=True).prefetch_related("rules")
        number = len(channels_for(alert.rule, channels))
        if number:
            return f"{counted(number, 'channel')}; the messages are below"
        add = reverse("admin:chatproxy_alertchannel_add")
        return format_html('No channel: nobody is told. <a class="cp-link" href="{}">Add a channel</a>', add)

    @display(description="state", label=STATES)  # type: ignore[untyped-decorator]  # unfold's
    def alert_state(self, alert: Alert) -> str:
        return "open" if alert.resolved_at is None else "resolved"

    @admin.display(description="since (UTC)", ordering="since")
    def began(self, alert: Alert) -> str:
        return f"{alert.since:%Y-%m-%d %H:%M}"

    @admin.display(description="resolved (UTC)", ordering="resolved_at")
    def ended(self, alert: Alert) -> str:
        return f"{alert.resolved_at:%Y-%m-%d %H:%M}" if alert.resolved_at else ""


@admin.register(AlertMessage)
class AlertMessageAdmin(ReadOnlyAdmin):
    list_display = ("what", "made", "channel", "message_state", "attempts", "last_result")
    fields = readonly_fields = ("what", "channel", "made", "message_state", "results")
    list_select_related = ("channel",)
    show_full_result_count = False
    empty_words = "The messages that the channels have sent, or could not send, will be listed here."

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertMessage]:
        newest = AlertAttempt.objects.filter(message=OuterRef("pk")).order_by("-pk")
        found: QuerySet[AlertMessage] = super().get_queryset(request)
        return found.annotate(last_result=Subquery(newest.values("result")[:1]))

    @admin.display(description="message")
    def what(self, message: AlertMessage) -> str:
        return escape_invisible(str(message.notice.get("title", "")))

    @admin.display(description="written (UTC)", ordering="made_at")
    def made(self, message: AlertMessage) -> str:
        return f"{message.made_at:%Y-%m-%d %H:%M:%S}"

    @display(description="state", label=MESSAGE_STATES)  # type: ignore[untyped-decorator]  # unfold's
    def message_state(self, message: AlertMessage) -> str:
        return message.state

    @admin.display(description="last result")
    def last_result(self, message: AlertMessage) -> str:
        return getattr(message, "last_result", None) or ""

    @admin.display(description="tries (UTC)")
    def results(self, message: AlertMessage) -> str:
        tries = ((f"{one.at:%Y-%m-%d %H:%M:%S}", one.result) for one in message.tries.all())
        return format_html_join("", "{}: {}<br>", tries)


class DeletedWithAlertsAdmin(GuardedAdmin):
    """Base class of the admin's pages of alert rules and channels; deleting one also deletes its alerts or messages."""

    def get_deleted_objects(self, objs: Sequence[Model] | QuerySet[Model], request: HttpRequest) -> Any:
        """Returns what Django's page before a deletion shows, such as the rows to delete and the missing permissions.

        The alerts or messages that are deleted with their rule or channel need no permission: nobody has one.
        """
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, lacking - {model._meta.verbose_name for model in (Alert, AlertMessage)}, protected


@admin.register(AlertRule)
class AlertRuleAdmin(DeletedWithAlertsAdmin):
    class Media:
        js = ("proxyapi/forms.js",)

    form = AlertRuleForm
    list_display = ("rule_name", "fires", "window", "quiet", "repeat", "enabled")
    ordering = (KIND_LABEL, "threshold")
    empty_words = "Without a rule, no fault is looked for. Add one for each kind of fault."
    readonly_fields = ("meaning",)

    def get_fieldsets(self, request: HttpRequest, obj: AlertRule | None = None) -> Any:
        when = ("kind", *(("meaning",) if obj else ()), "threshold", "window_minutes", "enabled")
        return (
            ("When", {"fields": when, "description": "" if obj else _meanings()}),
            ("How often", {"fields": ("quiet_hours", "repeat_hours")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: AlertRule | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, *(("kind",) if obj else ()))

    @admin.display(description="rule", ordering=KIND_LABEL)
    def rule_name(self, rule: AlertRule) -> str:
        return str(rule)

    @admin.display(description="opens an alert when")
    def fires(self, rule: AlertRule) -> str:
        return KINDS[AlertKind(rule.kind)].fires

    @admin.display(description="window", ordering="window_minutes")
    def window(self, rule: AlertRule) -> str:
        minutes = rule.window_minutes
        if minutes is None:
            return "-"
        return f"{minutes} min" if minutes % 60 or minutes == 60 else f"{minutes // 60} h"

    @admin.display(description="quiet after a message", ordering="quiet_hours")
    def quiet(self, rule: AlertRule) -> str:
        return f"{rule.quiet_hours} h" if rule.quiet_hours else "no"

    @admin.display(description="sent again", ordering="repeat_hours")
    def repeat(self, rule: AlertRule) -> str:
        return f"every {rule.repeat_hours} h" if rule.repeat_hours else "no"

    @admin.display(description="meaning")
    def meaning(self, rule: AlertRule) -> str:
        return _meaning(AlertKind(rule.kind))


def _meaning(kind: AlertKind) -> str:
    """Returns a text that says when a rule of a kind opens an alert, and what its threshold and its window mean."""
    facts = KINDS[kind]
    fields = (("Threshold", facts.threshold), ("Window", facts.window))
    return " ".join([facts.fires, *(f"{name}: {text}" for name, text in fields if text)])


def _meanings() -> str:
    """Returns HTML with the meaning of each kind of rule; a script of the page shows only that of the chosen kind."""
    listed = ((kind.value, kind.label, _meaning(kind)) for kind in AlertKind)
    return format_html_join("", '<p data-kind="{}"><b>{}</b> {}</p>', listed)


@admin.register(AlertChannel)
class AlertChannelAdmin(DeletedWithAlertsAdmin):
    form = AlertChannelForm
    list_display = ("name", "kind", "goes_to", "quiet_time", "enabled")
    empty_words = (
        "A channel sends alerts to a webhook, to Slack, to Teams or by e-mail. Add one, and send a test message."
    )
    readonly_fields = ("goes_to",)
    formfield_overrides = {  # noqa: RUF012  (Django's attribute)
        ArrayField: {"form_class": LinesField, "widget": UnfoldAdminTextareaWidget({"rows": 3})},
        ManyToManyField: {"widget": UnfoldAdminCheckboxSelectMultipleWidget},
    }
    actions_detail = ("send_test_message",)

    def get_fieldsets(self, request: HttpRequest, obj: AlertChannel | None = None) -> Any:
        address = (*(("goes_to",) if obj else ()), "url", "secret", "recipients")
        return (
            (None, {"fields": ("name", "kind", "enabled")}),
            ("Where to", {"fields": address}),
            ("What and when", {"fields": ("rules", "quiet_from", "quiet_until")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: AlertChannel | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, *(("kind",) if obj else ()))

    def save_model(self, request: HttpRequest, obj: AlertChannel, form: AlertChannelForm, change: bool) -> None:
        form.set_secrets(obj)
        obj.save()

    @action(description="Send a test message", url_path="test", permissions=["change"])  # type: ignore[untyped-decorator]  # unfold's
    def send_test_message(self, request: HttpRequest, object_id: str) -> HttpResponse:
        number = row_number(object_id)
        channel = None if number is None else AlertChannel.objects.filter(pk=number).first()
        if channel is None:
            raise Http404("There is no such channel.")
        if request.method != "POST":
            context = {**self.admin_site.each_context(request), "opts": self.opts, "original": channel}
            context |= {"channel": channel, "title": f"Test channel {escape_invisible(channel.name, 60)}"}
            return TemplateResponse(request, "admin/chatproxy/alertchannel/test_channel.html", context)
        result = send_test(channel)
        self.log_change(request, channel, f"Test message: {result.words}.")
        level, verb = (messages.SUCCESS, "sent") if result.was_sent else (messages.ERROR, "not sent")
        self.message_user(request, f"The test message was {verb}: {result.words}.", level)
        return redirect("admin:chatproxy_alertchannel_change", channel.pk)

    @admin.display(description="goes to")
    def goes_to(self, channel: AlertChannel) -> str:
        """Returns where a channel sends messages: its e-mail recipients, or the host in its address.

        The other parts of the address are secret.
        """
        return ", ".join(channel.recipients) if channel.kind == ChannelKind.EMAIL else f"{channel.host}/…"

    @admin.display(description="quiet (UTC)")
    def quiet_time(self, channel: AlertChannel) -> str:
        if channel.quiet_from is None or channel.quiet_until is None:
            return ""
        return f"{channel.quiet_from:%H:%M} to {channel.quiet_until:%H:%M}"
