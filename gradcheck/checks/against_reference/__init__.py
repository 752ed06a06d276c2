"""The checks against a second implementation that the user trusts."""
