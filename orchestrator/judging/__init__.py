"""What happened and what to do about it: pure functions over evidence."""
