"""Several processes of `torch.distributed` that are one function together."""
