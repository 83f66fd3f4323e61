"""Statistics over stored predictions: paired differences and bootstrap intervals."""
