"""What is written and read in one form: keys, durations, JSON, prompts; pure."""
