"""The dashboards without their app: verbs that return data or HTML."""
