"""What the local page answers: pictures, models and questions, without a web framework."""
