"""The figures of `streamlab plot`: one module each, and the sheet that all are drawn on."""
