"""Makes a conversation of the logged bodies of one call, to be read by people; pure functions without a database.

`turns` (the types: a conversation has turns, a turn has parts), `cut_json` (reads JSON that was cut when it was
logged), `members` (takes an object's members one by one, so that none is lost), `message_parts` (the parts of a
message's content), `chat_messages` (chats), `response_items` (items of the Responses API), `streamed_blocks` (the
logged text of a streamed answer), `reader` (the conversation of a call), `safe_markdown` (Markdown as harmless HTML),
`session_calls` (the calls of a session in order) and `neighbours` (the next call of a list), the only modules here with
queries.

Invariants: nothing raises, whatever the bodies are. All text in the bodies is in the conversation: members that are not
understood are shown as JSON. Nothing here makes text harmless for a page, but `safe_markdown`: templates do so by the
filter `visible`.
"""
