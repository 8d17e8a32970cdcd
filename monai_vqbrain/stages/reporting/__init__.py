"""Figures, tables and pages: the parts of `evaluate` and `report`."""
