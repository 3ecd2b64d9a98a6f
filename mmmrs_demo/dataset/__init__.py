"""Building the material that MMM-RS models are trained on: tiles, places, captions and synthesised weather."""
