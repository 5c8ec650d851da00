"""What the Ollama collector is made of: replies read, comings counted, families."""
