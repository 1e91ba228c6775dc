"""Bodies, forms and names that tests send, as data."""
