"""What `jobtrail demo` runs."""
