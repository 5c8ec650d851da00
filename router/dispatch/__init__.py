"""Where a request goes and how its reply comes back; reads one snapshot."""
