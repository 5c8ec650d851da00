"""Slots in use, and what is learned about how many of them pay."""
