"""Scores that were made elsewhere, judged like studies of this program: from runs to a stored study and its page."""
