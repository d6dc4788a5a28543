"""The stand-in for the Hub, for every test here."""

from hub_stand_in import hub  # noqa: F401  # a fixture
