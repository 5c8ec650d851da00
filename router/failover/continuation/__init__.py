"""A stream that broke on one node goes on from another; the client sees one stream."""
