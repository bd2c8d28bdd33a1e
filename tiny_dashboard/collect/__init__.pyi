from .collecting import collect_examples as collect_examples
from .output import merge as merge
from .rechecking import Recheck as Recheck
from .rechecking import recheck as recheck
