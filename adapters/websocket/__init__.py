"""What both ends of a WebSocket of ours have in common: the envelopes of the subprotocol polygate.v1."""
