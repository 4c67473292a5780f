"""One file a question: how fast shmipc is beside its peers. See README.md for the commands."""
