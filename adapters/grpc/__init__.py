"""What the gRPC listener and the gRPC backend share: metadata, the status of an error, and the services that a server owes."""
