"""Contracts: what a derivative must honour besides its value. One file per contract, named after it."""
