"""Tables of calls of every kind, each with the dollars that OpenAI bills for it, computed by hand."""
