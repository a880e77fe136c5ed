"""The process of ``pad-teacher serve``: its checks before anything is loaded, and uvicorn around the application."""
