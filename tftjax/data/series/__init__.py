"""Series of one's own with release dates: their reading, their transforms, their columns as of each row."""
