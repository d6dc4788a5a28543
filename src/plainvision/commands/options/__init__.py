"""What several verbs are given: network.py, data.py and output.py."""
