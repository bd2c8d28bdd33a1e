from .collecting import collect_examples as collect_examples
from .output import merge as merge
