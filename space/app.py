"""The dashboard as a Space: what dashboard.toml beside this file says, and over it the variables TINY_DASHBOARD_…;
with neither, the embedded demo. DASHBOARD_CONFIG names another file.

Host and port come from GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.
"""

import os
from pathlib import Path

try:
    import spaces  # first: before anything looks for CUDA
except ImportError:  # not on a Space
    spaces = None

from tiny_dashboard import DashboardConfig, launch

named = os.environ.get("DASHBOARD_CONFIG")
config = named or DashboardConfig.of_space(Path(__file__).parent, os.environ)
# Elsewhere than on ZeroGPU the models load in the background, on whatever device there is.
launch(config, patient=True, gpu=spaces.GPU if spaces and os.environ.get("SPACES_ZERO_GPU") else None)
