"""The configuration file: read, checked and drafted."""
