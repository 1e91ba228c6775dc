"""Checks that a call may use the stored objects it names, and finds out which objects its answer will create.

`CallView.check_and_send` runs the check for both APIs, so no request goes upstream without it. An object belongs to the
key that created it. If no key of this gateway is known to have created it, only the built-in key (`SECURITY_KEY`) may
use it, which sees everything. A key may read and use, but not change, the objects that an administrator has shared with
it (`AccessKey.shared_objects`). Models belong to the upstream account: every key may read them, and only the built-in
key may change or delete one. The upstream account may be administered by the built-in key, and by callers with an
upstream key of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from django.conf import settings

from proxyapi.bodies import large_bodies
from proxyapi.exceptions import NotFound, RouteNotAllowed
from proxyapi.key_names import SECURITY_KEY_NAME
from proxyapi.keys.callers import Caller
from proxyapi.keys.globs import matches_any
from proxyapi.object_owners.named_objects import NamedObjects
from proxyapi.object_owners.object_places import IN_PATHS, OTHER, READING_POSTS, Reference
from proxyapi.object_owners.owner_recording import expected_ids
from proxyapi.object_owners.owner_store import given_to, owners_of
from proxyapi.routes import Route
from proxyapi.upstream.request import UpstreamRequest
from usage.answers.created_ids import CreatedIds, is_object_id
from usage.kept_bodies.body_excerpts import PartExcerpt


@dataclass(frozen=True, slots=True)
class CheckedObjects:
    """The stored objects that an allowed call names or will create; the function `check` returns this.

    `named` are the ids in the request. `made` is the reader that finds the ids of new objects in the answer, or None if
    the call creates none.
    """

    named: frozenset[str] = frozenset()
    made: CreatedIds | None = None


NOTHING = CheckedObjects()
ADMINISTRATION = (
    "/v1/{} administers the upstream account: only the built-in key may use it, and keys that have an upstream key of"
    " their own."
)


async def check(request: UpstreamRequest, caller: Caller) -> CheckedObjects:
    """Checks that the caller's key may use every stored object that the request names.

    Returns the ids of these objects, and the reader that will find the ids of new objects in upstream's answer.

    Raises:
        NotFound: an object belongs to another key or to none, and so seems to be missing; or the path has no route.
        BadRequest: a value that must be an id cannot be one, or the request names too many objects.
        RouteNotAllowed: the call would change a shared object or a model, or administer the upstream account.
        DatabaseUnavailable: only the database knows the owner of an object, and it is unavailable.
    """
    route = request.route
    if route is None:
        raise NotFound("No object found with that id.")
    if route.family.is_administration:
        if caller.name != SECURITY_KEY_NAME and not caller.upstream_key and not _brings_account(request, caller):
            raise RouteNotAllowed(ADMINISTRATION.format(route.family.name))
        return NOTHING
    if caller.name == SECURITY_KEY_NAME:
        return await _see_all(route, request)
    if route.family.name == "models":
        if request.method != "GET":
            raise RouteNotAllowed("Models belong to the account: only the built-in key may change or delete one.")
        return NOTHING
    named = NamedObjects(route.family.name)
    await _read(request, route, named)
    if not named and not route.object_id and not route.unknown_segments:
        return _access(route, request, frozenset(), is_own=False)
    return await _check_owners(route, request, named, caller)


async def _see_all(route: Route, request: UpstreamRequest) -> CheckedObjects:
    """Returns the `CheckedObjects` of a call of the built-in key, which may use all objects; refuses nothing.

    If the call may create objects, `named` has all ids in the request, so that none of them is taken for a new one in
    the answer. Otherwise it has only the ids in the path.
    """
    is_own = False
    if route.object_id and request.method == "POST":  # of a GET, the built-in key becomes the owner of nothing
        is_own = (await owners_of((), [route.object_id])).get(route.object_id) == SECURITY_KEY_NAME
    access = _access(route, request, _ids_in_path(route), is_own=is_own)
    if access.made is None:
        return access
    # The ids in the request are read all the same: if the answer repeats them, they are no ids of new objects.
    named = NamedObjects(route.family.name, skips_faults=True)
    await _read(request, route, named)
    return CheckedObjects(access.named.union(named.references, named.mentions), access.made)


async def _read(request: UpstreamRequest, route: Route, named: NamedObjects) -> None:
    """Adds the ids of stored objects in a request's JSON body and query to `named`.

    Raises:
        BadRequest: a value that must be an id cannot be one, or the request names too many objects.
    """
    if request.json is not None:
        await large_bodies.run(request.json.size, named.add_body, request.json.members)
    if request.query:
        named.add_query(request.query, is_list=route.is_collection)


async def check_form(parts: Sequence[PartExcerpt], caller: Caller) -> frozenset[str]:
    """Checks that the caller's key may use every stored object that a form names; returns the ids of these objects.

    `parts` are the form's parts, without the contents of files, and with only the beginning of a long field. Raises
    `NotFound`, `BadRequest` and `DatabaseUnavailable`, as the function `check` does.
    """
    # More of the form is not in memory, because it is sent on while it arrives.
    size = sum(len(part.content) for part in parts)
    named = await large_bodies.run(size, _read_form, parts, caller.name == SECURITY_KEY_NAME)
    if named and caller.name != SECURITY_KEY_NAME:
        owners = await owners_of(named.references, named.mentions)
        owners |= await _given_mentions(named, owners, caller)
        await large_bodies.run(size, _check_named, named, owners, caller)
    return frozenset({*named.references, *named.mentions})


def _read_form(parts: Sequence[PartExcerpt], may_be_odd: bool) -> NamedObjects:
    """Returns the ids of stored objects (files, responses and so on) that the fields of a multipart form name.

    Raises:
        BadRequest: a field that must hold an id holds something else, or there are too many ids. With `may_be_odd`,
            such a field is skipped instead, and any number of ids is accepted.
    """
    named = NamedObjects(skips_faults=may_be_odd)
    for part in parts:
        text = None if part.file_name is not None else part.content.decode("utf-8", "replace")
        named.add_field(part.name.decode("utf-8", "replace"), text, is_whole=part.size == len(part.content))
    return named


async def visibility_test(object_ids: Collection[str], caller: Caller) -> Callable[[str], bool]:
    """Returns a function that takes one of the ids `object_ids`, and returns whether the caller may see that object.

    The caller may see objects of its own key, and objects that are shared with the key; the built-in key may see all.

    Raises:
        DatabaseUnavailable: only the database knows the owner of an object, and it is unavailable.
    """
    if caller.name == SECURITY_KEY_NAME:
        return lambda object_id: True
    owners = await owners_of([one for one in object_ids if is_object_id(one)])
    return lambda object_id: owners.get(object_id) == caller.name or is_shared(object_id, caller)


def is_shared(object_id: str, caller: Caller) -> bool:
    """Returns whether an administrator has shared the object with the caller's key, by its id or by a pattern."""
    return matches_any(object_id, caller.shared_objects)


async def _check_owners(route: Route, request: UpstreamRequest, named: NamedObjects, caller: Caller) -> CheckedObjects:
    """Checks that the caller may use all objects that a request names, in its path or in `named`; returns their ids.

    The result also has the reader that finds the ids of new objects in the answer. Raises `NotFound`, `RouteNotAllowed`
    and `DatabaseUnavailable`, as the function `check` does.
    """
    in_path = [one for one in (route.object_id, *route.unknown_segments[:2]) if one]
    missing = NotFound(IN_PATHS.get(route.family.name, OTHER).words.format(in_path[0][:200] if in_path else ""))
    if not all(map(is_object_id, in_path)):
        raise missing
    needed = {*named.references, *in_path}
    further = _further_segments(route)
    owners = await owners_of(needed, {*named.mentions, *further})
    if _brings_account(request, caller):
        owners = dict.fromkeys(needed, caller.name) | owners
    is_own = owners.get(route.object_id) == caller.name
    if route.object_id and not is_own:
        if not is_shared(route.object_id, caller):
            raise missing
        if request.method != "GET" and route.name not in READING_POSTS:
            raise RouteNotAllowed("This object is shared with this key: only the key that made it may change it.")
    elif route.unknown_segments and not _may_follow(route, request.method, owners, caller):
        raise missing
    if any(_is_foreign(one, request.method, owners, caller) for one in further):
        raise missing
    owners |= await _given_mentions(named, owners, caller)
    await large_bodies.run(request.text_size, _check_named, named, owners, caller)
    return _access(route, request, frozenset({*needed, *named.mentions, *_ids_in_path(route)}), is_own=is_own)


def _brings_account(request: UpstreamRequest, caller: Caller) -> bool:
    """Returns whether the request itself has an upstream key, which pays for the call instead of the configured one."""
    # Whoever has that key may see everything in its account, so the gateway need not protect the objects there.
    return request.credentials.api_key not in {settings.OPENAI_API_KEY, caller.upstream_key}


async def _given_mentions(named: NamedObjects, owners: dict[str, str], caller: Caller) -> dict[str, str]:
    """Returns which mentions of other keys' objects upstream has given to the caller's key as well, with that key.

    Some servers give the same id to two keys, which both send it back with its content. The id alone stays its first
    owner's: a mention that is also a reference is left out.
    """
    foreign = [one for one in named.mentions if owners.get(one, caller.name) != caller.name]
    foreign = [one for one in foreign if one not in named.references and not is_shared(one, caller)]
    return await given_to(caller.name, foreign) if foreign else {}


def _check_named(named: NamedObjects, owners: dict[str, str], caller: Caller) -> None:
    """Checks that the caller's key may use every object that a request's body, form or query names.

    A text that may be an id or a free name (a mention) is refused only if another key owns an object with this id, and
    upstream has not given the id to the caller's key as well.

    Raises:
        NotFound: the key may not use one of the objects; the message is the same as for a missing object.
    """
    for object_id, (place, name) in named.references.items():
        if owners.get(object_id) != caller.name and not is_shared(object_id, caller):
            raise _missing(place, object_id, name)
    for object_id in named.mentions:
        if owners.get(object_id, caller.name) != caller.name and not is_shared(object_id, caller):
            raise _missing(OTHER, object_id, None)


def _may_follow(route: Route, method: str, owners: dict[str, str], caller: Caller) -> bool:
    """Returns whether the caller may use a path that is not in OpenAI's reference.

    Only its first two unknown segments count, which may be ids of objects:

    * If one is the id of another key's object, the caller may not use the path.
    * A POST with one unknown segment, which is then the name of an action, is allowed.
    * Any other request is allowed if one of the two is the id of an object of the caller's key.

    For GET, an object shared with the key counts as its own.
    """
    first = route.unknown_segments[:2]
    if any(_is_foreign(one, method, owners, caller) for one in first):
        return False
    # The only unknown segment of a POST is the name of an action.
    if method == "POST" and len(route.unknown_segments) == 1:
        return True
    return any(owners.get(one) == caller.name or (method == "GET" and is_shared(one, caller)) for one in first)


def _is_foreign(object_id: str, method: str, owners: dict[str, str], caller: Caller) -> bool:
    """Returns whether an object belongs to another key than the caller's.

    `owners` maps object ids to the names of keys. An object without a known owner belongs to no other key. For GET, an
    object that is shared with the caller's key counts as its own.
    """
    # An object without a known owner belongs to no other key.
    if owners.get(object_id, caller.name) == caller.name:
        return False
    return method != "GET" or not is_shared(object_id, caller)


def _further_segments(route: Route) -> list[str]:
    """Returns further segments that look like object ids, if the path is not in OpenAI's reference; else none.

    The object id in the path and its first two unknown segments are left out: `_check_owners` checks them itself.
    """
    if not route.is_known:
        # `_may_follow` checks the first two unknown segments.
        checked = {route.object_id, *route.unknown_segments[:2]}
        behind = route.segments[len(route.family.segments) :]
        return [one for one in behind if one not in checked and is_object_id(one)]
    return []


def _ids_in_path(route: Route) -> frozenset[str]:
    """Returns all segments of a path behind its family's name that may be ids, such as both in `/threads/a/runs/b`."""
    return frozenset(filter(is_object_id, route.segments[len(route.family.segments) :]))


def _missing(place: Reference, object_id: str, name: str | None) -> NotFound:
    """Creates the 404 error for an object that the caller may not use; it reads as if there were no such object."""
    return NotFound(place.words.format(object_id[:200]), param=name, code=place.code)


def _access(route: Route, request: UpstreamRequest, named: frozenset[str], *, is_own: bool) -> CheckedObjects:
    """Builds the `CheckedObjects` of an allowed request; `named` are the ids that the request names."""
    made = expected_ids(route, request, is_own=is_own)
    return CheckedObjects(named, made) if named or made else NOTHING
