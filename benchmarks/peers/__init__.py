"""One adapter each, behind one protocol (`contender.py`): everything that can save the same state, and the floors."""
