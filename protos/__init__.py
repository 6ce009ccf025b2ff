"""The wire contract: `recommender.proto`, its generated stubs, and the bundle manifest's JSON schema."""
