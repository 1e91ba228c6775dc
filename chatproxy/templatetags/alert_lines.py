"""A template tag for the dashboard: the line about open alerts."""

from __future__ import annotations

from django import template

from chatproxy.alert_models import Alert
from usage.untrusted_text import escape_invisible

MOST_NAMED = 2
MOST_COUNTED = 100

register = template.Library()


@register.simple_tag
def open_alerts() -> str:
    """Returns one line about the open alerts: the titles of the two newest, and how many others are open.

    The line is empty if no alert is open. Of very many alerts, only the first hundred are counted.
    """
    titles = list(Alert.objects.filter(resolved_at=None).values_list("title", flat=True)[:MOST_COUNTED])
    named = "; ".join(escape_invisible(title, 100) for title in titles[:MOST_NAMED])
    more = len(titles) - MOST_NAMED
    return f"{named}; and {more} more" if more > 0 else named
