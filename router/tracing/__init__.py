"""Spans of requests for a tracing backend; nothing here exists unless it is on."""
