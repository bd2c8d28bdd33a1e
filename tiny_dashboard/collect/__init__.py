"""Models, a dictionary, a corpus -> the strongest examples and the statistics of every feature, in one pass.

`corpus.py` makes the batches, `state.py` keeps what is found, `run.py` runs and resumes, `saved.py` saves, `output.py`
writes the dataset and merges shards, and `settings.py` says what can be set: it is read without loading the others.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
