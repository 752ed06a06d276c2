"""The PyTorch backend: functions on tensors, autograd Functions and modules."""
