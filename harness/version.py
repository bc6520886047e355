"""The version, written here only: the wheel, an editable install and the check of Ray's nodes read it."""

__version__ = "0.2.0"
