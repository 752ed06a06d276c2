"""gradcheck says whether a derivative is right, where it is wrong, and why, with no tolerance to tune.

The public names are declared in `__init__.pyi` beside this file and loaded at first use: `import gradcheck` imports neither a
framework nor NumPy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
