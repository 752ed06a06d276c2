"""The contracts of autograd Functions and modules. One file per contract, named after it; the registry tries them."""
