"""What a network costs: parameters, multiply-adds, time and memory, how these grow, and records of it."""

from plainvision.bench.growth import growth_exponents
from plainvision.bench.measurement import Measurement, comparison, median_interval, ratios_per_round
from plainvision.bench.record import as_table, host_facts, write_record
from plainvision.bench.sizes import at_size
from plainvision.bench.timing import measure, measure_training_step
from plainvision.inspection.counting import count_macs, count_parameters

__all__ = [
    "Measurement",
    "as_table",
    "at_size",
    "comparison",
    "count_macs",
    "count_parameters",
    "growth_exponents",
    "host_facts",
    "measure",
    "measure_training_step",
    "median_interval",
    "ratios_per_round",
    "write_record",
]
