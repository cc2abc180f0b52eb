"""The live pages: what people look at. Rendered here, kept up to date by server-sent events."""
