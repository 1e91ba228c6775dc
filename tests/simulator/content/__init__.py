"""What the simulator says: errors, texts, token counts, checks of values."""
