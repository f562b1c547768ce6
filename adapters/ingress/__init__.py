"""One file per listener kind. None imports another."""
