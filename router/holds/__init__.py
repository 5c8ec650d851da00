"""The hold store: who keeps work away from which node, and the history of it."""
