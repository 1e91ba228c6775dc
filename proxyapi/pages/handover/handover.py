"""The content of the page that shows a new secret: the secret, the key's limits, tabs for clients, and a message.

The content has the secret in it, so it is made for one answer, and stored nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from proxyapi.models import AccessKey
from proxyapi.pages.handover import key_words, snippets
from proxyapi.pages.handover.first_call import NO_MODEL, find_first_call
from proxyapi.pages.handover.snippets import Access, Tab
from proxyapi.pages.key_sessions import SITE_PATH
from usage.page_data.formatting import count
from usage.untrusted_text import escape_invisible


@dataclass(frozen=True)
class Handover:
    """A key with its new secret, to be handed over. `address` is the gateway's URL, without a slash at its end."""

    key: AccessKey
    secret: str
    address: str

    @cached_property
    def access(self) -> Access:
        """What the page's tabs need: the gateway's address, the secret, and a first call that the key may make."""
        return Access(self.address, self.secret, find_first_call(self.key))

    @property
    def summary(self) -> str:
        """The key's limits and budgets, and those of its team, in one or two sentences."""
        return key_words.summary(self.key)

    @property
    def tabs(self) -> list[Tab]:
        """The tabs of the page that shows a new key: one per client program, each with texts to copy."""
        return snippets.tabs(self.access)

    @property
    def has_model(self) -> bool:
        """True if a model for the first call is known; if not, the page has a placeholder instead of its name."""
        return self.access.first_call.model != NO_MODEL

    @property
    def message(self) -> str:
        """A message to send to a colleague: plain text, with the key's secret and everything needed to use the key."""
        facts = {
            "Base URL": self.access.base_url,
            "Key": self.secret,
            "Models": key_words.models(self.key),
            "Budget": self._budget,
            "Limits": self._limits,
            "Valid until": f"{self.key.expires_at:%Y-%m-%d %H:%M} UTC" if self.key.expires_at else "",
            "My usage": f"{self.address}{SITE_PATH} (sign in with the key)",
        }
        curl, variables = snippets.curl(self.access), snippets.environment(self.access)
        parts = [
            f"This is your key “{escape_invisible(self.key.name)}” for OpenAI's API. Keep it secret.",
            "\n".join(f"{name}: {fact}" for name, fact in facts.items() if fact),
            f"A first call, in a shell:{self._hint}",
            curl.text,
        ]
        if self.access.first_call.endpoint.method:
            parts += [variables.hint, variables.text]
        return "\n\n".join(parts)

    @property
    def _hint(self) -> str:
        return "" if self.has_model else f" (put the name of a model in the place of {NO_MODEL})"

    @property
    def _limits(self) -> str:
        """The limits of the key and of its team other than models and budgets; empty if there are none."""
        own, limit = key_words.limits(self.key), self.key.max_output_tokens
        if limit is not None:
            own = ", ".join(filter(None, [own, f"{count(limit)} output tokens a call"]))
        of_team = key_words.limits(self.key.team) if self.key.team else ""
        return "; ".join(filter(None, [own, of_team and f"{of_team} for all keys of the team together"]))

    @property
    def _budget(self) -> str:
        own = key_words.budgets(self.key) or "none of its own"
        of_team = key_words.budgets(self.key.team) if self.key.team else ""
        return f"{own}; {of_team} for all keys of the team together" if of_team else own
