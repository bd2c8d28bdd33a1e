from .app.launch import build_app as build_app
from .app.launch import launch as launch
from .collect import collect_examples as collect_examples
from .collect import recheck as recheck
from .config import DashboardConfig as DashboardConfig
from .core.examples import Example as Example
from .core.highlight import Track as Track
from .dashboard_implementations import CrosscoderOnlineFeatureDashboard as CrosscoderOnlineFeatureDashboard
from .dashboard_implementations import SAEOnlineFeatureDashboard as SAEOnlineFeatureDashboard
from .dictionaries import load_dictionary as load_dictionary
from .feature_centric_dashboards import AbstractOnlineFeatureCentricDashboard as AbstractOnlineFeatureCentricDashboard
from .feature_centric_dashboards import OfflineFeatureCentricDashboard as OfflineFeatureCentricDashboard
from .feature_centric_dashboards import OnlineFeatureCentricDashboard as OnlineFeatureCentricDashboard
from .sources import open_examples as open_examples
from .visualization_utils import activation_visualization as activation_visualization

__version__: str
