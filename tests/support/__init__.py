"""What the tests build: tiny seeded checkpoints, a fake hub, a guard on the network."""
