"""Reads which tags have sums, and whether teams have some; the page *Usage* offers them as choices."""

from __future__ import annotations

from datetime import date

from django.db import connection

from usage.sums.labels.label_tables import CLOSED, TABLE, TAG

# Finds each label after the one before along the primary key, since few labels have very many rows.
TAG_NAMES = f"""
    WITH RECURSIVE labels AS (
        SELECT min(label) AS label FROM {TABLE} WHERE span = 'month'
        UNION ALL
        SELECT (SELECT min(label) FROM {TABLE} WHERE span = 'month' AND label > labels.label) FROM labels
        WHERE labels.label IS NOT NULL
    )
    SELECT label FROM labels WHERE label LIKE %(tags)s AND label <> %(none)s AND EXISTS (
        SELECT FROM {TABLE} AS known
        WHERE known.span = 'month' AND known.label = labels.label AND known.start >= %(since)s)
    ORDER BY NOT EXISTS (
        SELECT FROM {TABLE} AS valued
        WHERE valued.span = 'month' AND valued.label = labels.label AND valued.value > '' AND valued.start = (
            SELECT max(start) FROM {TABLE} AS newest WHERE newest.span = 'month' AND newest.label = labels.label)
    ), label
"""
# Finds the teams one after the other, and looks for days of each, in the index of the primary key (team, day): few
# teams have very many days each. In the sums by label, all rows would be read where there are no teams.
HAS_TEAMS = """
    WITH RECURSIVE teams AS (
        SELECT min(team) AS team FROM usage_teamday
        UNION ALL
        SELECT (SELECT min(team) FROM usage_teamday WHERE team > teams.team) FROM teams WHERE teams.team IS NOT NULL
    )
    SELECT EXISTS (SELECT FROM teams WHERE EXISTS (
        SELECT FROM usage_teamday AS days WHERE days.team = teams.team AND days.day >= %(since)s))
"""


def has_teams(since: date) -> bool:
    """Returns whether any team has made calls in the month in which the day `since` lies, or later."""
    with connection.cursor() as cursor:
        cursor.execute(HAS_TEAMS, {"since": since.replace(day=1)})
        return any(found for (found,) in cursor.fetchall())


def read_tag_names(since: date) -> list[str]:
    """Returns the names of the tags that have sums for the month in which `since` lies, or for a later one.

    Tags with values (such as `project`, from `project=x`) come first, because calls can be grouped by them; then the
    others. Each part is in alphabetical order. A tag without a name is left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(TAG_NAMES, {"since": since.replace(day=1), "none": CLOSED, "tags": f"{TAG}%"})
        # A caller's tag may have a value and no name. Nothing can be grouped by that.
        return [name for (label,) in cursor.fetchall() if (name := label.removeprefix(TAG))]
