"""Records as tables and pages: listings, filters, comparisons and formats."""
