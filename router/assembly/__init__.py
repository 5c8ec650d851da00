"""Builds the parts of the router and ties them together; nothing else."""
