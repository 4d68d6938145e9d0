"""What is wrong with Barwright and its servers, and what to do: `barwright doctor` and `barwright status`."""
