"""Names for features: labels in and out, and explanations by a language model with their scores."""
