"""The parts of build_reference_bank."""
