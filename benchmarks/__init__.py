"""How fast is the feed, against a plain generator and against the machine."""
