"""The checks of second derivatives."""
