"""The configuration file: its keys, reading and checking it, and drafting the first one."""
