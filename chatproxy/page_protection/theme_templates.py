"""Loads the templates of the admin's theme (unfold), and changes them so that pages are easier to use.

A template is changed when it is read, which happens once in a process. (A copy of the template here would hide the
changes of a new version of the theme.) If a new version lacks a text that is to be changed, `MissingPart` is raised, so
tests notice it.
"""

from __future__ import annotations

import re

from django.template import Origin
from django.template.loaders.app_directories import Loader

# The elements of icons. Their text is the name of an icon, which a screen reader would read as a word.
_ICON = re.compile(r'<(span|div)(?= [^>]*class="[^"]*material-symbols-outlined)(?![^>]*aria-hidden)')
# Of a template, by the end of its path: texts, and what stands in their places.
_CHANGES = {
    "unfold/layouts/skeleton.html": (
        # Fonts of 450 kB, for letters that every system has; and a font of all 3,800 icons, of which 90 are used.
        ("""<link href="{% static "unfold/fonts/inter/styles.css" %}" rel="stylesheet">""", ""),
        ("""<link href="{% static "unfold/fonts/material-symbols/styles.css" %}" rel="stylesheet">""", ""),
        ("""<script src="{% static 'unfold/js/chart/chart.js' %}"></script>""", ""),  # the charts are our own
        (
            """<link href="{% static 'unfold/css/simplebar/simplebar.css' %}" rel="stylesheet">""",
            """<link href="{% static 'unfold/css/simplebar/simplebar.css' %}" rel="stylesheet">
        <link href="{% static 'usage/theme.css' %}" rel="stylesheet">
        <noscript><link href="{% static 'usage/without_scripts.css' %}" rel="stylesheet"></noscript>
        <script src="{% static 'usage/theme.js' %}" defer></script>""",
        ),
        (
            """{% block base %}{% endblock %}""",
            """<a class="cp-skip" href="#content">Skip to the content</a>
        {% block base %}{% endblock %}""",
        ),
    ),
    "unfold/templates/admin/search_form.html": (
        ("""id="searchbar-submit">""", """id="searchbar-submit" aria-label="Search">"""),
    ),
    "unfold/helpers/tab_actions.html": (
        (
            """extra_attrs="x-on:click='showActions = !showActions'\"""",
            """extra_attrs="aria-label='Actions' x-on:click='showActions = !showActions'\"""",
        ),
    ),
    # The icon leads to where the name beside it leads.
    "unfold/helpers/site_icon.html": (
        (
            """a href="{% url "admin:index" %}"{% endif %} class="bg-primary-600""",
            """a href="{% url "admin:index" %}" tabindex="-1" aria-hidden="true"{% endif %} class="bg-primary-600""",
        ),
    ),
    "unfold/templates/admin/base.html": (
        ("""<div class="@container px-4 pb-4 grow">""", """<main class="@container px-4 pb-4 grow">"""),
        (
            """{% block sidebar %}{% endblock %}
                </div>
            </div>""",
            """{% block sidebar %}{% endblock %}
                </div>
            </main>""",
        ),
    ),
    "unfold/layouts/unauthenticated.html": (
        ("""<div class="w-full sm:w-96">""", """<main id="content" class="w-full sm:w-96">"""),
        ("""{% block content %}{% endblock %}
            </div>""", """{% block content %}{% endblock %}
            </main>"""),
    ),
}  # fmt: skip


class MissingPart(Exception):
    """Error: a template of the admin's theme lacks a text that the gateway changes, or has it more than once."""


class ThemeTemplates(Loader):
    """Django's loader of templates, which changes the templates of the admin's theme when it reads them."""

    def get_contents(self, origin: Origin) -> str:
        """Returns the text of a template; changes it first if it is a template of the theme.

        Raises:
            MissingPart: a text that is to be changed is not in the template, or is there more than once.
            TemplateDoesNotExist: there is no such template.
        """
        text = super().get_contents(origin)
        path = str(origin.name).replace("\\", "/")
        return mended(path, text) if "/unfold/" in path else text


def mended(path: str, text: str) -> str:
    """Returns the text of a template of the admin's theme with the gateway's changes.

    These are the replacements in `_CHANGES`, and an attribute that hides icons from screen readers. `path` and `text`
    are those of the theme's own template.

    Raises:
        MissingPart: a text that is to be changed is not in the template, or is there more than once.
    """
    changes = next((changes for end, changes in _CHANGES.items() if path.endswith(f"/{end}")), ())
    for old, new in changes:
        if text.count(old) != 1:
            raise MissingPart(f"{path} has {old!r} {text.count(old)} times")
        text = text.replace(old, new)
    return _ICON.sub(r'<\1 aria-hidden="true"', text)
