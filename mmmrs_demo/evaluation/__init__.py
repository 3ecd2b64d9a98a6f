"""How good the pictures are: figures against real tiles, beside the simplest guesses there are, and a report."""
