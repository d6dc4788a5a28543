"""What several verbs are given: network.py and data.py."""
