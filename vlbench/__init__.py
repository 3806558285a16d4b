"""vlbench: a benchmark suite for moving vision-language models to video action recognition."""

__version__ = "0.1.0"
