"""`inferops`: the command line. Knows the router by HTTP only."""
