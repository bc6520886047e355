"""Reports: tables, figures and self-contained HTML pages from stored runs. Nothing here imports torch."""
