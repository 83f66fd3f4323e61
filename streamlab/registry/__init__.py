"""What is remembered: the registry of records, the store of artifacts, and curves beside them."""
