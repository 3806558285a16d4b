"""Lists of videos: official annotations, the field's published lists, draws of shots, the index of files."""
