"""Tools for datasets: the doctor, resized copies, descriptions from a language model."""
