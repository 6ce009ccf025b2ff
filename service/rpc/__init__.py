"""gRPC: `protos/recommender.proto` on one side, domain values on the other. `server.RpcServer` is the way in."""
