"""Where a run's time goes: every second of a launcher's life, booked under one heading."""
