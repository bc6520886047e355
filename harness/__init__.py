"""Does this training trick help my image classifier, by how much, how sure are we, and what does it cost?"""

__version__ = "0.2.0"
"""Written here only: the wheel, an editable install and the check of Ray's nodes read it."""
