"""The golden model: design section 2 as plain code, which everything else is judged by."""
