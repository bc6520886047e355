"""Rows on disk: one parquet file per run and kind, written atomically, read tolerantly."""
