"""Helpers of several test modules: tiny models, real servers, cameras and clients."""
