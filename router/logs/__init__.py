"""Structured logs and their redaction."""
