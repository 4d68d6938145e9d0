"""From exchanges and files through Kafka into the database, and the upkeep of what landed there."""
