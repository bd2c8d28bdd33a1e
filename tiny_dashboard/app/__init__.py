"""The Gradio app over the dashboards."""
