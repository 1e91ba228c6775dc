"""What tests put into the journal and the tables, and how they look at it."""
