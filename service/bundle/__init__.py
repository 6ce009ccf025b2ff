"""The bundle: the one contract between the offline jobs and the service. It is defined where it is read."""
