"""Decides which item goes to which node next; pure, with time as an argument."""
