"""A process with limited memory that reads files and renders templates."""
