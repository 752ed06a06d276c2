"""The NumPy backend: functions with hand-written derivatives, traced by PyTorch for automatic differentiation."""
