"""Bytes between a client and a node: connections, HTTP/1.1, framing."""
