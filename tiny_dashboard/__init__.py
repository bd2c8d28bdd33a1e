"""tiny-dashboard: look at the features of sparse autoencoders and crosscoders.

The public names stand in `__init__.pyi`, where editors and type checkers read them too. They load on first use, so that
importing the package costs nothing: no torch, no gradio.
"""

import lazy_loader

__version__ = "0.8.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
