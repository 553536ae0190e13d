"""A folder of somebody's own pictures and questions: its tables found, their columns named, and read row by row."""
