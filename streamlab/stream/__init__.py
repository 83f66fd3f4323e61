"""The simulation: scenarios, arrivals and the engine that serves them."""
