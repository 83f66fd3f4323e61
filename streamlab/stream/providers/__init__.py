"""What a provider does: train, quantise, and misbehave where a scenario says so."""
