"""From an uploaded file to prompts."""
