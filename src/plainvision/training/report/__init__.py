"""What a run and an evaluation found: as rows of tables, and as a page, the run's in `run.py`."""
