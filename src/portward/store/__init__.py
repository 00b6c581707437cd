"""The tables, how to reach them, and the migrations that build them."""
