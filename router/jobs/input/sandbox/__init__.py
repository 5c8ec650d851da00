"""A process with limited memory, in which files are read and templates written."""
