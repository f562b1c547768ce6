"""One file per format kind. None imports another."""
