"""Routes of jobs, files and OpenAI batches."""
