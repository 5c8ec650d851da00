"""Turns alerts into holds, and lifts a hold once its node is healthy again."""
