"""Routes of jobs, files and OpenAI service."""
