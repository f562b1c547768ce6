"""Polygate's core: one conversation of messages, whatever the wire. Imports no wire library and no adapter."""

__version__ = "0.1.0"
