"""What is drawn: inline SVG for pages, and matplotlib's figures for papers. Plain values go in, no files."""
