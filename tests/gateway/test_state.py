"""What every state does, whatever keeps it."""

from __future__ import annotations
