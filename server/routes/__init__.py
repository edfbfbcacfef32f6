"""The endpoints. Each module translates between the wire and the engine, and holds no state."""
