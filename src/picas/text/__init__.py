"""JSON and templates, as other languages and people write them."""
