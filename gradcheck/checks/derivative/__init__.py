"""The check of the claimed first derivative against numerical evidence."""
