"""Pure functions on arrays: classification, calibration, alignment, intervals."""
