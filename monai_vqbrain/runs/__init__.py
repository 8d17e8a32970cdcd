"""The run folder on disk: its layout, tables, codes, freshness, and the steps of bundle configs."""
