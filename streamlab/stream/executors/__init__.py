"""Where providers work: in this process, or each in one of its own."""
