"""Records to rows to figures: listings, pages, storage, CSV; matplotlib is imported here only."""
