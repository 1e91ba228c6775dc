"""Explains each kind of fault: the meaning of its threshold and its window, and what to do about such a fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode

from chatproxy.alert_models import AlertKind, AlertRule
from usage.untrusted_text import escape_invisible

MOST_SHOWN = 80  # characters of a name


@dataclass(frozen=True)
class KindFacts:
    """The facts about one kind of fault: when a rule of the kind opens an alert, and what people should do then.

    `threshold` and `window` are texts that explain these fields of a rule; a text is empty if rules of this kind do not
    use the field. `page` is the path of the page with details, relative to the gateway's root. If `must_last` is true,
    a fault opens an alert only after it has lasted for the window.
    """

    fires: str
    action: str
    page: str
    threshold: str = ""
    window: str = ""
    must_last: bool = False


LASTS = "The fault must last this long."
KINDS = {
    AlertKind.BUDGET: KindFacts(
        "A key or a team has spent this part of its budget of a day or of a month, or of its lifetime budget.",
        "Tell the owner of the key or the leads of the team, or raise the budget.",
        "admin/proxyapi/accesskey/",
        threshold="Percent of the budget.",
    ),
    AlertKind.BUDGET_REFUSALS: KindFacts(
        "Calls of a key were refused because its budget, or its team's, had no room for what they could cost.",
        "Tell the key's owner, or raise the budget.",
        "admin/proxyapi/accesskey/",
        threshold="Refused calls of one key in the window.",
        window="Counted in whole hours.",
    ),
    AlertKind.ERROR_RATE: KindFacts(
        "Of at least 20 calls in the window, this part failed at upstream, and at least three times as many as in the"
        " same window of the last seven days. Calls that the gateway refused or whose caller left do not count.",
        "Open Errors, which groups failed calls by kind.",
        "admin/usage/errors/",
        threshold="Percent of the calls.",
        window="Minutes up to now.",
    ),
    AlertKind.UPSTREAM_DOWN: KindFacts(
        "The newest call of a host did not reach upstream.",
        "Check the network, HTTPS_PROXY and OPENAI_BASE_URL. /health makes one real call.",
        "admin/usage/errors/",
        window=LASTS,
        must_last=True,
    ),
    AlertKind.UPSTREAM_SLOW: KindFacts(
        "Of at least 20 calls in the window, one in twenty took at least this many times as long at upstream as in the"
        " same window of the last seven days, and at least five seconds.",
        "Look at the latency on the dashboard, and at upstream's status page.",
        "admin/",
        threshold="Times the usual 95th percentile.",
        window="Minutes up to now.",
    ),
    AlertKind.BACKLOG: KindFacts(
        "The oldest record of a host's journal has waited this long for the database.",
        "Look for a slow database or disk, or for locks in pg_stat_activity. No call is lost meanwhile.",
        "admin/",
        threshold="Seconds.",
    ),
    AlertKind.SHIPPER: KindFacts(
        "A host's shipper has not run, or has failed with an error of its own, for the whole window.",
        "On that host, read the end of the log, and run manage.py doctor. Calls go on, and wait in the journal.",
        "admin/",
        window=LASTS,
        must_last=True,
    ),
    AlertKind.DATABASE: KindFacts(
        "A host cannot use the database.",
        "/readyz says what is wrong with the database. Calls go on, and wait in the journal.",
        "admin/",
        window=LASTS,
        must_last=True,
    ),
    AlertKind.DISK: KindFacts(
        "The disk of a host's DATA_DIR is nearly full: less than this part of it is free, and less than 20 GB. Also"
        " when calls are refused because it is full.",
        "Free some space. When the disk is full, calls get 503 until there is space again.",
        "admin/",
        threshold="Percent of the disk that is free.",
        window=LASTS,
        must_last=True,
    ),
    AlertKind.UNPRICED: KindFacts(
        "Calls have no cost because no price is known for their model. It ends when they have a price.",
        "Add a custom price; the list of needed prices proposes one. Then run manage.py ledger reprice --since DAY, "
        "with the first day to price again, such as 2026-11-01.",
        "admin/usage/needed-prices/",
        threshold="Calls of one model in the window.",
        window="Minutes up to now.",
    ),
    AlertKind.KEY_EXPIRY: KindFacts(
        "An active key expires soon.",
        "Tell the key's owner, or set a later time of expiry.",
        "admin/proxyapi/accesskey/",
        threshold="Days before the key expires.",
    ),
    AlertKind.LOGIN: KindFacts(
        "Attempts to sign in to the admin or to My usage were refused on a host because there were too many.",
        "Find out whether somebody has forgotten a password, or is guessing. Nothing needs to be unlocked.",
        "admin/",
        threshold="Refused attempts in the window.",
        window="Minutes up to now.",
    ),
}


@dataclass(frozen=True)
class FoundFault:
    """A fault that exists now, with words for people about it.

    * `subject`: the thing that has the fault, such as a key; it is empty for the whole gateway or the whole host.
    * `title`, `detail`: one line that says what is wrong, and a further text, which may be empty.
    * `since`: the time at which the fault began or, if that is unknown, was first found.
    * `page`: the page with details; if it is empty, the page of the fault's kind. `query` selects the subject on that
      page.
    """

    subject: str
    title: str
    detail: str
    since: datetime
    query: dict[str, str] = field(default_factory=dict)
    page: str = ""


def page_of(rule: AlertRule, fault: FoundFault) -> str:
    """Returns the path of the page with details about a fault, relative to the gateway's root, with a query if needed.

    It is the page that the fault names or, if the fault names none, the page for this kind of fault.
    """
    path = fault.page or KINDS[AlertKind(rule.kind)].page
    return f"{path}?{urlencode(fault.query)}" if fault.query else path


def least_duration(rule: AlertRule) -> timedelta:
    """Returns how long a fault must have lasted before the rule opens an alert; zero for most kinds of fault."""
    is_wanted = KINDS[AlertKind(rule.kind)].must_last
    return timedelta(minutes=rule.window_minutes or 0) if is_wanted else timedelta(0)


def one_line(name: str) -> str:
    """Makes a name that a stranger may have chosen safe for messages: one short line, invisible characters escaped."""
    return escape_invisible(" ".join(name.split()), MOST_SHOWN)
