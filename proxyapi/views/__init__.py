"""One small class per endpoint; `base` has what they share."""
