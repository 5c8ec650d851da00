"""Routes under /admin."""
