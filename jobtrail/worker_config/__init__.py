"""How workers of each job type run: `config` reads it, `syntax` is how values are written, `pod` uses it."""
