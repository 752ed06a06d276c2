"""The contracts that targets of every framework must honour. One file per contract."""
