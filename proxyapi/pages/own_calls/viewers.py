"""Decides whose calls somebody may see in "My usage": all calls of one key, or those of one owner of the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.http import Http404

from usage.admin_pages.export import account_reader
from usage.models import Request
from usage.page_data.filters import Filters, read_filters

# What a list of one key's calls can be filtered by. A search by an id would find calls of other keys, too.
OWN_FILTERS = ("range", "from", "to", "outcome", "status", "code", "model", "route", "stream", "slower", "cost")


@dataclass(frozen=True)
class Viewer:
    """A person who looks at the calls of one access key in the pages "My usage".

    * `key`: the name of the key.
    * `owner`: if not None, the person sees only calls that were made while the key had this owner.
    * `base`: the path of the list of calls in URLs. The pages of single calls are below it.
    * `home`: the path of the page with the key's usage in URLs.
    * `sees_bodies`: whether prompts and answers are shown.
    """

    key: str
    owner: str | None
    base: str
    home: str
    sees_bodies: bool = False

    @property
    def reader(self) -> str:
        """The name under which this person's running exports are counted: `key <name>` or `account <name>`.

        The count limits how many exports one person can run at the same time.
        """
        return f"key {self.key}" if self.owner is None else account_reader(self.owner)

    def filters(self, query: Mapping[str, str], now: datetime) -> Filters:
        """Reads the filters of a list of calls from query parameters, and limits them to what this person may see.

        Only the filters in `OWN_FILTERS` are read. The key is always `self.key`, and the owner `self.owner`.
        """
        allowed = {name: query[name] for name in OWN_FILTERS if name in query}
        return replace(read_filters(allowed, now, with_messages=True, is_own=True), key=self.key, owner=self.owner)

    def get(self, request_id: UUID) -> Request:
        """Returns one call of the key, with its bodies if this person sees them.

        Raises:
            Http404: there is no such call, or this person may not see it.
        """
        calls = Request.objects.select_related("body") if self.sees_bodies else Request.objects.all()
        call = calls.filter(pk=request_id).first()
        if call is None or not self._may_see(call):
            raise Http404("There is no such call; it may have been pruned.")
        return call

    def _may_see(self, call: Request) -> bool:
        return call.key_name == self.key and not call.by_gateway and self.owner in (None, call.owner)
