"""What several test modules share: tiny models, real servers, cameras and clients."""
