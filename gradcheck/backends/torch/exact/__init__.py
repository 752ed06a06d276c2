"""PyTorch targets as exact graphs: traced with their reverse mode, and translated operator by operator."""
