"""Who changed what, from where, and what was before and after; append-only."""
