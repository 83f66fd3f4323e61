"""Statistics: paired differences over tasks and seeds, and bootstraps of stored predictions."""
