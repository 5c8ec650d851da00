"""Settings, inventory and signals: their types, their files and their reload."""
