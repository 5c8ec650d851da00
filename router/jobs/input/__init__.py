"""Turns an uploaded file into items and their prompts."""
