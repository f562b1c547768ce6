"""What is published can be run again: `make bench`. Each figure is a ratio to the bare library, measured in the same run."""
