"""Does this training trick help my image classifier, by how much, how sure are we, and what does it cost?"""

__version__ = "0.1.0"
