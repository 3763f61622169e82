"""How a spawned process speaks with the driver, and what a stage may touch."""
