"""The checks of second and third derivatives."""
