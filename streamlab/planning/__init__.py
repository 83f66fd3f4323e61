"""Planning: what storing more tasks will take, from what storing some has taken."""
