"""The contracts that targets of every framework must honour."""
