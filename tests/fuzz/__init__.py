"""Bad input: a corpus, its mutations, and everything that reads what others send."""
