"""Calls that a running program makes of your own derivatives, collected while it runs and checked afterwards."""
