"""One file per backend kind. None imports another."""
