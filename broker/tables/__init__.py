"""Light curves out of a scientist's own tables, and what is said of them as a table again. Files in, files out."""
