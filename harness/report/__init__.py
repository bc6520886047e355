"""Reports: tables, figures and self-contained HTML pages from stored runs. Nothing here imports torch.

`load` and `evidence` read and gather, `text` and `drawings` say and draw it, `pages` put that into documents, and
`export` and `site` hand out files: one table or figure, or all pages.
"""
