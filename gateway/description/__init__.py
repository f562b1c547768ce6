"""What the gateway serves, described for programs: OpenAPI, AsyncAPI and the contract, generated from the plan of a config."""
