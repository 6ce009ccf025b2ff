"""The online half: opens a bundle and answers over REST and gRPC. Read `service/recommend.py` first."""
