"""Satellite images from text, and translations between RGB, SAR and NIR, after the MMM-RS paper (arXiv 2410.22362)."""

__version__ = "0.1.0"
