"""The boards that the firmware runs on, one package each."""
