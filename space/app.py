"""The dashboard as a Space: DASHBOARD_CONFIG, or the dashboard.toml beside this file, or the embedded demo.

Host and port come from GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.
"""

import os
from pathlib import Path

from tiny_dashboard import launch

beside = Path(__file__).with_name("dashboard.toml")
launch(os.environ.get("DASHBOARD_CONFIG") or (beside if beside.exists() else None))
