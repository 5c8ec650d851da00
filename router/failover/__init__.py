"""Attempts on one node after the other, and streams moved to another node."""
