"""Settings, inventory and signals: their shapes, their files, their reload."""
