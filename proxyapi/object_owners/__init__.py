"""Knows which key owns an object stored upstream (a response, a conversation, a file …), and which calls may name it.

`object_places` is a table: every place where a request can name an object. `named_objects` finds the ids in those
places. `ownership_check` is the one check, made for every call before it is sent upstream. `owner_store` records which
key made an object: first as a symbolic link in `DATA_DIR/owners`, later in `usage_storedobject`. `owner_recording`
records which objects a call has made, before the caller gets the answer with their ids.

May import `proxyapi.bodies`, `keys` and `upstream` (for the type of a request), but no call, view or API.
"""
