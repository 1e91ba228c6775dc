"""Converts the logged bodies of one call to a conversation for people to read; without the database.

`turns` (the types: a conversation has turns, a turn has parts), `cut_json` (reads JSON that was cut when it was
logged), `members` (takes an object's members one by one, so that none is lost), `message_parts` (the parts of a
message's content), `chat_messages` (chats), `response_items` (items of the Responses API), `streamed_blocks` (the
logged text of a streamed answer), `reader` (the conversation of a call), `safe_markdown` (Markdown as harmless HTML),
`new_turns` (what is new in each call of a session), `session_calls` (the calls of a session in order) and `neighbours`
(the next call of a list). Only the last two have queries.

Invariants: no error is raised, whatever the bodies contain. All text in the bodies is in the conversation; unknown
members are shown as JSON. Only `safe_markdown` makes text harmless for a page; for other text, templates do so with the
filter `visible`.
"""
