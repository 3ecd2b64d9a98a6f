"""The page in the browser: components to requests, renderings to components; knows no model."""

from mmmrs_demo.ui.app import create_app, serve

__all__ = ["create_app", "serve"]
