"""A search of recurrent cells of 6 nodes on pydoc by characters, a text for which no setting was tuned."""

config = "demo"
text_unit = "character"
