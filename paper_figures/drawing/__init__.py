"""Pictures of saved data, from their Dataset alone."""
