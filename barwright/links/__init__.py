"""How clients reach Kafka and Redis: one place makes their options and says what is wrong with the settings."""
