"""Tables of one's own: reading and checking, a first look, rows of the future, targets made of levels."""
