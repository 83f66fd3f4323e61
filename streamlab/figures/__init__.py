"""Figures, and the numbers behind them as CSV."""
