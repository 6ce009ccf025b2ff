"""The offline half: a shop's files in, a published bundle out."""
