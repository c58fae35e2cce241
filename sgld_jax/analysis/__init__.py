"""Why to believe a run: arrays `[C, S, ...]` in, arrays out."""
