"""What the data path itself learns of nodes and requests, and what follows from it."""
