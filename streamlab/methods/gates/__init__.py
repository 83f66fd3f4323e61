"""Hard-Concrete gates, group gates and the controller of the expected density."""
