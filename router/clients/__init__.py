"""One file for each neighbour that the router asks."""
