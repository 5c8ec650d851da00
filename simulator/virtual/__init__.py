"""Virtual time: a simulated fleet under the router's own decisions; no network."""
