"""The documents: each module makes one kind of page as text, from loaded rows and the drawings."""
