"""Nothing acknowledged is lost, and nothing that failed is there: proved under faults, with a ledger of every attempt.

`make chaos` runs every fault with many seeds and prints a table; `python -m tests.chaos --help` tells how to run one again.
"""
