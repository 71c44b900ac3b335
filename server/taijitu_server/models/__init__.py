"""The models that are served: their files, versions, queues and decoding threads."""
