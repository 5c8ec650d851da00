"""Runs the items of jobs on leased slots and reconciles them with the store."""
