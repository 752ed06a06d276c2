"""Drop-in replacements for other gradient checkers: the same arguments, answered by gradcheck's evidence.

One module for each checker, named after its package: `gradcheck.compat.torch`, `.jax`, `.autograd`, `.scipy`. Importing this
package loads none of them, and none of them loads its framework before it is called.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
