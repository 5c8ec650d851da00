"""Jobs over many prompts: the lowest-priority tenant of the fleet's slots."""
