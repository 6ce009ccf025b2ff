"""REST: the wire of HTTP on one side, domain values on the other. `app.build_app` is the way in."""
