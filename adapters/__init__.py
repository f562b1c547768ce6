"""What speaks to the outside: one file per kind, registered by entry points; the core imports none of them."""
