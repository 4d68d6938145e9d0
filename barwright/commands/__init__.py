"""Commands about symbols and their history; they work on the database directly."""
