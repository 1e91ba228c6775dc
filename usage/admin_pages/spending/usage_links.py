"""Links from the dashboard to the page *Usage*: this month by team, owner, end user, key and tag; a day's usage."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlencode

from django.urls import reverse

from usage.page_data.spending.spending_choice import GROUP_LABELS
from usage.page_data.spending.spending_content import has_present_teams
from usage.sums.labels.label_tables import TAG
from usage.sums.labels.tag_names import read_tag_names

LINKED = ("team", "owner", "end_user", "key")
OF_DAYS = urlencode({"by": "model", "then": "key"})  # the query string of a day's usage, without the day
MAX_TAGS = 5  # names of tags that get a link; the page offers all


def usage_links(now: datetime) -> list[tuple[str, str]]:
    """Returns links to the page *Usage* for the present month, one for each way to group calls, as label and URL.

    Calls can be grouped by some of their properties (`LINKED`) and by tags. While there are no teams, there is a link
    by model instead of team.
    """
    page = reverse("pages:usage_report")
    linked = LINKED if has_present_teams(now) else ("model", *LINKED[1:])
    labels = {name: GROUP_LABELS[name].lower() for name in linked}
    labels |= {f"{TAG}{name}": name for name in read_tag_names(now.date())[:MAX_TAGS]}
    return [(label, f"{page}?{urlencode({'range': 'this_month', 'by': name})}") for name, label in labels.items()]
